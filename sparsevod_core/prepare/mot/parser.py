"""Parser of MOT Challenge's `gt.txt`; see `mot/labels.py` for the meaning of the columns."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from sparsevod_core.errors import DataError

PEDESTRIAN = 1
"""Class of files without a class column."""


@dataclass(frozen=True, slots=True)
class MotEntry:
    """One line of a `gt.txt`, as written; `is_ignored` if `conf` is 0."""

    frame: int
    track: int
    box_ltwh: tuple[float, float, float, float]
    is_ignored: bool
    class_id: int
    visibility: float


def read_ground_truth(path: Path) -> Iterator[tuple[int, MotEntry | str]]:
    """Yield the line number and the entry, or its problem, of each non-blank line.

    Raises:
        DataError: The file cannot be read.
    """
    try:
        with path.open(encoding="utf-8-sig", errors="replace") as file:
            for number, line in enumerate(file, start=1):
                if line.strip():
                    yield number, _parse(line.strip())
    except OSError as error:
        raise DataError(f"{path}: cannot read the ground truth: {error.strerror}") from error


def _parse(line: str) -> MotEntry | str:
    words = line.split(",")
    try:
        values = [float(word) for word in words if word.strip()]
    except ValueError:
        return f"expected comma-separated numbers, got {line[:60]!r}"
    if len(values) < 6:
        return f"expected `frame,id,left,top,width,height,conf,class,visibility`, got {line[:60]!r}"
    if not all(map(math.isfinite, values[:9])):
        return f"expected finite numbers, got {line[:60]!r}"
    # Files with 7 columns have no class; in MOT15's 10 columns the eighth is a 3D coordinate.
    class_id = values[7] if len(values) in (8, 9) and values[7] != -1 else float(PEDESTRIAN)
    if not (values[0].is_integer() and values[1].is_integer() and class_id.is_integer()):
        return f"expected integers as frame, id and class, got {line[:60]!r}"
    left, top, width, height = values[2:6]
    if width <= 0 or height <= 0:
        return f"expected a positive width and height, got {width:g}x{height:g}"
    return MotEntry(
        int(values[0]),
        int(values[1]),
        (left, top, width, height),
        is_ignored=len(values) >= 7 and values[6] == 0,
        class_id=int(class_id),
        visibility=values[8] if len(values) == 9 else 1.0,
    )
