"""Report of `sparsevod prepare-vid` on a conversion: tables on stdout, warnings on stderr."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from sparsevod_cli import console
from sparsevod_core.reporting import counted

if TYPE_CHECKING:
    from sparsevod_core.prepare.conversion.counts import Example
    from sparsevod_core.prepare.conversion.prepared_split import PreparedSplit

SHOWN_PROBLEMS = 10
"""Number of lines shown on the terminal per kind of problem and split."""

LINE_LENGTH = 80

SHOWN_CLASSES = 20
"""Number of classes shown on the terminal: those with most boxes."""


def show(title: str, prepared: list[PreparedSplit]) -> None:
    """Print the counts, how the data were read, what is missing or broken, and the files."""
    if any(expected is not None for split in prepared for _, _, expected in _compared(split)):
        for split in prepared:
            _show_expected(f"{title}: {split.split}", split)
    else:
        columns = ["", *(split.split for split in prepared)]
        console.table(title, columns, _side_by_side([_account(split) for split in prepared]))
    examples = _examples(prepared)
    if examples:
        console.lines("How the data were read", examples)
    for split in prepared:
        _warn(split)
        if split.file is not None:
            console.say(f"wrote {split.file}")


def as_json(split: PreparedSplit) -> dict[str, Any]:
    """Return the result of `--json` for one split."""
    result = dataclasses.asdict(dataclasses.replace(split, videos=[]))
    del result["videos"], result["farthest_px"]
    del result["shared"]  # one of the doubts
    return result | {
        "file": None if split.file is None else str(split.file),
        "problems_file": None if split.problems_file is None else str(split.problems_file),
        "num_boxes": split.num_boxes,
        "expected_boxes": split.expected_boxes,
        "frames_per_video": split.frames_per_video,
        "doubts": split.doubts,
    }


def _compared(split: PreparedSplit) -> list[tuple[str, int, int | None]]:
    """Return rows of name, number found, and number expected."""
    counts = [
        ("videos", split.num_videos, split.expected_videos),
        ("frames", split.num_frames, split.expected_frames),
        ("still images", split.num_stills, split.expected_stills),
        ("targets", split.num_targets, split.expected_targets),
        ("without a box", split.num_empty, split.expected_empty),
        ("boxes", split.num_boxes, split.expected_boxes),
    ]
    if not (split.num_stills or split.expected_stills):
        del counts[2]
    expected = split.expected_boxes_per_class or {}
    return counts + [
        (f"  {n}", found, expected.get(n)) for n, found in split.boxes_per_class.items()
    ]


def _show_expected(title: str, split: PreparedSplit) -> None:
    rows = []
    for name, found, expected in _compared(split):
        difference = (
            "" if expected is None else f"{found - expected:+d}" if found != expected else "0"
        )
        rows.append([name, str(found), "" if expected is None else str(expected), difference])
    rows += [[name, value, "", ""] for name, value in _left_out(split).items()]
    console.table(title, ["", "found", "expected", "difference"], rows)


def _account(split: PreparedSplit) -> dict[str, str]:
    """Return what was found in a split, in words that fit a table of all splits."""
    rows = {"videos": f"{split.num_videos:,}", "frames": f"{split.num_frames:,}"}
    if split.frames_per_video is not None and split.first_numbers is not None:
        low, middle, high = split.frames_per_video
        rows["  per video"] = f"{low:,}" if low == high else f"{low:,} to {high:,}"
        if low != high:
            rows["  per video (median)"] = f"{middle:,g}"
        first, last = split.first_numbers
        rows["  counted from"] = f"{first}" if first == last else f"{first} to {last}"
    if split.num_stills:
        rows["still images"] = f"{split.num_stills:,}"
    if split.num_targets != split.num_frames + split.num_stills:
        rows["targets of training"] = f"{split.num_targets:,}"
    rows["without a box"] = f"{split.num_empty:,}"
    if (degraded := split.degraded_frames) is not None:
        rows["degraded frames"] = f"{sum(degraded.values()):,}"
        rows |= {f"  {kind.replace('_', ' ')}": f"{n:,}" for kind, n in degraded.items()}
    rows["boxes"] = f"{split.num_boxes:,}"
    per_class = sorted(split.boxes_per_class.items(), key=lambda item: -item[1])
    shown = dict(per_class[:SHOWN_CLASSES])
    rows |= {f"  {name}": f"{n:,}" for name, n in split.boxes_per_class.items() if name in shown}
    if others := [n for name, n in per_class if name not in shown]:
        rows[f"  {len(others)} other classes"] = f"{sum(others):,}"
    rows |= _crowd(split)
    rows["tracks"] = f"{split.num_tracks:,}"
    if split.num_tracks:
        rows["boxes of known motion"] = f"{split.num_known_motion:,}"
    return rows | _left_out(split)


def _crowd(split: PreparedSplit) -> dict[str, str]:
    """Return the crowd boxes, which are among the boxes, by reason if it is known."""
    from sparsevod_core.prepare.reading.annotated import KEPT_AS_CROWD

    rows = {reason: n for reason, n in split.left_out.items() if reason.endswith(KEPT_AS_CROWD)}
    if (others := split.num_crowd - sum(rows.values())) > 0:
        rows["crowd boxes, neither trained on nor scored"] = others
    return {f"  {reason}": f"{number:,}" for reason, number in rows.items()}


def _left_out(split: PreparedSplit) -> dict[str, str]:
    from sparsevod_core.prepare.reading.annotated import KEPT_AS_CROWD

    rows = {r: n for r, n in split.left_out.items() if not r.endswith(KEPT_AS_CROWD)}
    if split.problems:
        rows["broken or missing"] = len(split.problems)
    return {f"left out: {reason}": f"{number:,}" for reason, number in rows.items()}


def _side_by_side(accounts: Sequence[Mapping[str, str]]) -> list[list[str]]:
    names: list[str] = []
    for account in accounts:  # a row that only some have comes behind the one that it follows there
        place = 0
        for name in account:
            if name in names:
                place = names.index(name) + 1
            else:
                names.insert(place, name)
                place += 1
    return [[name, *(account.get(name, "-") for account in accounts)] for name in names]


def _examples(prepared: Sequence[PreparedSplit]) -> list[str]:
    """Return examples of what was taken for what, and the notes of the format."""
    shortest = [split.shortest for split in prepared if split.shortest is not None]
    longest = [split.longest for split in prepared if split.longest is not None]
    videos: list[Example] = []
    if longest:
        videos.append(max(longest, key=lambda example: example.num_frames))
        least = min(shortest, key=lambda example: example.num_frames)
        videos += [least] if least.num_frames < videos[0].num_frames else []
    lines = [line for video in videos for line in _taken_for(video, f"video {video.name}")]
    stills = next((split.stills for split in prepared if split.stills is not None), None)
    if stills is not None:
        lines.extend(_taken_for(stills, counted(stills.num_frames, "still image")))
    if sum(split.num_boxes for split in prepared) and not any(s.num_tracks for s in prepared):
        lines.append("no tracks, so nothing is known about the speed of the objects")
    return lines + list(dict.fromkeys(note for split in prepared for note in split.notes))


def _taken_for(example: Example, what: str) -> list[str]:
    """Return the files of an example and what they were taken for, in short lines if possible."""
    first, last = example.first_file, example.last_file.rpartition("/")[2]
    if example.num_frames == 1:
        parts = [first]
    elif example.first_file == example.last_file:
        parts = [f"frames {example.first_number} ... {example.last_number} of {first}"]
    else:
        parts = [first, f"... {last}"]
    if len(" ".join(parts)) <= LINE_LENGTH:
        parts = [" ".join(parts)]
    if len(parts[0]) + len(what) <= LINE_LENGTH - 4 and len(parts) == 1:
        return [f"{parts[0]} -> {what}"]
    return [parts[0], *(f"    {part}" for part in (*parts[1:], f"-> {what}"))]


def _warn(split: PreparedSplit) -> None:
    for doubt in split.doubts:
        console.say(f"warning: {doubt}")
    differing = [
        f"{found} of {expected} {name.strip()}"
        for name, found, expected in _compared(split)
        if expected not in (None, found) and name[0] != " "  # classes are only in the table
    ]
    if differing:
        console.say(f"warning: {split.split}: {', '.join(differing)}")
    kinds = {
        f"{split.split}: listed, but missing: ": split.missing,
        f"{split.split}: not listed, skipped: ": split.unlisted,
        "": split.problems,
    }
    for kind, lines in kinds.items():
        for line in lines[:SHOWN_PROBLEMS]:
            console.say(f"warning: {kind}{line}")
    num_hidden = sum(max(0, len(lines) - SHOWN_PROBLEMS) for lines in kinds.values())
    if num_hidden:
        console.say(f"warning: {split.split}: {num_hidden} more lines like these")
    if split.problems_file is not None:
        console.say(f"everything missing or broken in {split.split}: {split.problems_file}")
    elif num_hidden:
        console.say("use --json to list everything")
