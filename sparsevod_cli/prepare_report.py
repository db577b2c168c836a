"""Report of `sparsevod prepare-vid` on a conversion: tables on stdout, warnings on stderr."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from sparsevod_cli import console

if TYPE_CHECKING:
    from sparsevod_core.prepare.conversion.prepared_split import PreparedSplit

SHOWN_PROBLEMS = 10
"""Number of lines shown on the terminal per kind of problem and split."""


def show(title: str, prepared: list[PreparedSplit]) -> None:
    """Print a table for each split, what is missing or broken in it, and the file written."""
    for split in prepared:
        counts = _counts(split)
        if any(expected is not None for _, _, expected in counts):
            columns = ["", "found", "expected", "difference"]
            rows = [
                [name, str(found), *_compared(found, expected)] for name, found, expected in counts
            ]
        else:
            columns = ["", "found"]
            rows = [[name, str(found)] for name, found, _ in counts]
        console.table(f"{title}: {split.split}", columns, rows)
    for split in prepared:
        _warn(split)
        if split.file is not None:
            console.say(f"wrote {split.file}")


def as_json(split: PreparedSplit) -> dict[str, Any]:
    """Return the result of `--json` for one split."""
    return dataclasses.asdict(split) | {
        "file": None if split.file is None else str(split.file),
        "problems_file": None if split.problems_file is None else str(split.problems_file),
        "num_boxes": split.num_boxes,
        "expected_boxes": split.expected_boxes,
    }


def _counts(split: PreparedSplit) -> list[tuple[str, int, int | None]]:
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
    counts += [(f"  {n}", found, expected.get(n)) for n, found in split.boxes_per_class.items()]
    return counts


def _compared(found: int, expected: int | None) -> tuple[str, str]:
    if expected is None:
        return "", ""
    return str(expected), f"{found - expected:+d}" if found != expected else "0"


def _warn(split: PreparedSplit) -> None:
    differing = [
        f"{found} of {expected} {name.strip()}"
        for name, found, expected in _counts(split)
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
