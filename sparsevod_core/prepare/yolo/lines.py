"""Lines of YOLO label files: their columns, and the box of each.

    class cx cy width height                    box
    class cx cy width height TRACK              integers
    class cx cy width height SCORE              fractions, which `save_conf` writes
    class cx cy width height SCORE TRACK        which `yolo track` writes with `save_conf`
    class cx cy width height x y [v] x y [v]..  key points, with `kpt_shape` in data.yaml
    class x1 y1 x2 y2 x3 y3 ...                 polygon; four corners are an oriented box

`line_form.py` decides from many lines which of these a data set has.

Source: docs.ultralytics.com/datasets; ultralytics, engine/results.py (save_txt).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from sparsevod_core.prepare.reading.annotated import Box
from sparsevod_core.prepare.reading.file_bytes import read_up_to
from sparsevod_core.prepare.reading.text_file import MAX_BYTES, encoding_of

_FARTHEST = 2.0
"""Largest center or size, as a fraction of the frame; more than that are pixels."""
_FARTHEST_CORNER = 1.5
"""Largest coordinate of a polygon; a visible key point has a 2."""


@dataclass(frozen=True, slots=True)
class LineForm:
    """Columns of the lines of a data set.

    Attributes:
        keypoint_numbers: Numbers for key points, after those of the box.
        tail: Columns after these: none, `track`, `score`, or `score` and `track`.
    """

    keypoint_numbers: int = 0
    tail: tuple[str, ...] = ()

    def parse(self, words: Sequence[str]) -> tuple[int, Box, int | None]:
        """Return the class, left, top, right and bottom as fractions of the frame, and the track.

        Raises:
            ValueError: Not a line of this form; the message says what was expected.
        """
        class_id, values = numbers_of(words)
        num_tail = len(values) - 4 - self.keypoint_numbers
        if len(values) == 4:  # a box without key points is certain, too
            num_tail = 0
        elif len(values) >= 6 and not (self.keypoint_numbers or num_tail == len(self.tail)):
            return class_id, polygon_extent(values), None
        if not 0 <= num_tail <= len(self.tail):
            raise ValueError(f"expected {self.columns}")
        track = None
        if num_tail and self.tail[num_tail - 1] == "track":
            if not values[-1].is_integer():
                raise ValueError("expected an integer track, as in other lines")
            track = int(values[-1]) if values[-1] >= 0 else None
        return class_id, box_of(values), track

    @property
    def columns(self) -> str:
        """Columns of a line with a box, in words."""
        text = f"{5 + self.keypoint_numbers} numbers `class cx cy width height"
        text += " key points`" if self.keypoint_numbers else "`"
        return f"{text}, or with {' and '.join(self.tail)}" if self.tail else text


def read_lines(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Yield the number and the words of each line that is not blank.

    Raises:
        OSError: Unreadable, or larger than 16 MiB.
    """
    content = read_up_to(path, MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise OSError(None, f"larger than {MAX_BYTES >> 20} MiB", str(path))
    lines = content.decode(encoding_of(content), errors="replace").splitlines()
    return ((n, words) for n, line in enumerate(lines, start=1) if (words := line.split()))


def numbers_of(words: Sequence[str]) -> tuple[int, list[float]]:
    """Return the class and the other numbers of a line.

    Raises:
        ValueError: Not numbers.
    """
    try:
        class_id, values = float(words[0]), [float(word) for word in words[1:]]
    except ValueError:
        raise ValueError("expected numbers `class cx cy width height`") from None
    if not class_id.is_integer() or not all(map(math.isfinite, values)):
        raise ValueError("expected an integer class and finite fractions")
    if len(values) < 4:
        raise ValueError("expected 5 numbers `class cx cy width height`")
    return int(class_id), values


def box_of(values: Sequence[float]) -> Box:
    """Return left, top, right and bottom of `cx, cy, width, height`.

    Raises:
        ValueError: Not fractions, or no positive size.
    """
    x, y, w, h = values[:4]
    if max(map(abs, values[:4])) > _FARTHEST:
        raise ValueError("expected fractions of the frame's size, not pixels")
    if w <= 0 or h <= 0:
        raise ValueError("expected a positive width and height")
    return x - w / 2, y - h / 2, x + w / 2, y + h / 2


def polygon_extent(values: Sequence[float]) -> Box:
    """Return left, top, right and bottom of `x1, y1, x2, y2, ...`.

    Raises:
        ValueError: A coordinate without its partner, or not fractions.
    """
    if len(values) % 2:
        raise ValueError("expected an even number of coordinates after the class")
    if max(map(abs, values)) > _FARTHEST_CORNER:
        raise ValueError("expected a polygon of fractions of the frame's size")
    xs, ys = values[0::2], values[1::2]
    return min(xs), min(ys), max(xs), max(ys)
