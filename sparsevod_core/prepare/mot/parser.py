"""Parser of MOT text files, given the meaning of their columns."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from sparsevod_core.prepare.mot.columns import Columns
from sparsevod_core.prepare.mot.rows import read_rows


@dataclass(frozen=True, slots=True)
class MotEntry:
    """One line, as written; `is_ignored` if `conf` is 0."""

    frame: int
    track: int
    box_ltwh: tuple[float, float, float, float]
    is_ignored: bool
    class_id: int
    is_occluded: bool


def read_ground_truth(path: Path, columns: Columns) -> Iterator[tuple[int, MotEntry | str]]:
    """Yield the line number and the entry, or its problem, of each line that is not blank.

    Raises:
        DataError: The file cannot be read.
    """
    num_columns = len(columns.names)
    box = [columns.names.index(name) for name in ("left", "top", "width", "height")]
    frame_at, track_at = columns.names.index("frame"), columns.names.index("id")
    conf_at, class_at = columns.index("conf"), columns.index("class")
    visibility_at, occlusion_at = columns.index("visibility"), columns.index("occlusion")
    rows = read_rows(path)
    if columns.has_header:
        next(rows)
    for number, row in rows:
        if isinstance(row, str):
            yield number, row
            continue
        if len(row) != num_columns:
            yield number, f"expected {num_columns} columns, got {len(row)}"
            continue
        frame, track = row[frame_at], row[track_at]
        class_id = columns.only_class if class_at is None else row[class_at]
        if not (frame.is_integer() and track.is_integer() and float(class_id).is_integer()):
            got = f"{frame:g}, {track:g}, {class_id:g}"
            yield number, f"expected integers as frame, id and class, got {got}"
            continue
        left, top, width, height = (row[place] for place in box)
        if width <= 0 or height <= 0:
            yield number, f"expected a positive width and height, got {width:g}x{height:g}"
            continue
        is_hidden = visibility_at is not None and 0 <= row[visibility_at] < 0.5
        is_hidden |= occlusion_at is not None and row[occlusion_at] in columns.occluded
        yield (
            number,
            MotEntry(
                int(frame),
                int(track),
                (left, top, width, height),
                is_ignored=conf_at is not None and row[conf_at] == 0,
                class_id=int(class_id),
                is_occluded=is_hidden,
            ),
        )
