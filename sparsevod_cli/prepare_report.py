"""What `sparsevod prepare-vid` says of what it found: a table on stdout, warnings on stderr."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from sparsevod_cli import console

if TYPE_CHECKING:
    from sparsevod_core.data.formats.prepared_split import PreparedSplit

SHOWN_PROBLEMS = 10


def show(title: str, prepared: list[PreparedSplit]) -> None:
    """One table; then for each split what is wrong, and where everything stands."""
    measures = {
        "videos": lambda s: _of(s.num_videos, s.expected_videos),
        "frames": lambda s: _of(s.num_frames, s.expected_frames),
        "stills": lambda s: _of(s.num_stills, s.expected_stills),
        "targets": lambda s: str(s.num_targets),
        "without a box": lambda s: str(s.num_empty),
        "boxes": lambda s: str(s.num_boxes),
    }
    rows = [[name, *(measure(split) for split in prepared)] for name, measure in measures.items()]
    for name in prepared[0].boxes_per_class:
        rows.append([f"  {name}", *(str(split.boxes_per_class[name]) for split in prepared)])
    console.table(title, ["", *(split.split for split in prepared)], rows)
    for split in prepared:
        _show_problems(split)
        if split.file is not None:
            console.say(f"wrote {split.file}")


def as_json(split: PreparedSplit) -> dict[str, Any]:
    """The result of `--json` for one split."""
    return dataclasses.asdict(split) | {
        "file": None if split.file is None else str(split.file),
        "num_boxes": split.num_boxes,
    }


def _show_problems(split: PreparedSplit) -> None:
    if split.missing:
        found = _of(split.num_videos, split.expected_videos)
        more = f" and {len(split.missing) - 1} more" if len(split.missing) > 1 else ""
        console.say(
            f"warning: {split.split}: {found} videos found; missing: {split.missing[0]}{more}"
        )
    if split.unlisted:
        console.say(f"warning: {split.split}: {len(split.unlisted)} videos not listed, left out")
    if split.num_other_boxes:
        console.say(
            f"{split.split}: {split.num_other_boxes} boxes of other classes, or marked to be "
            "ignored, left out"
        )
    for problem in split.problems[:SHOWN_PROBLEMS]:
        console.say(f"warning: {problem}")
    if len(split.problems) > SHOWN_PROBLEMS:
        console.say(
            f"warning: {split.split}: {len(split.problems) - SHOWN_PROBLEMS} more problems; "
            "all of them are in the result of --json"
        )


def _of(found: int, expected: int | None) -> str:
    return str(found) if expected is None else f"{found} of {expected}"
