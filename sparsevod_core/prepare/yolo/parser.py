"""Parser of a line of YOLO's label files: `class cx cy width height`, or a polygon."""

from __future__ import annotations

import math

from sparsevod_core.prepare.reading.annotated import Box


def parse_label(line: str, width: int, height: int) -> tuple[int, Box, int | None]:
    """Return the class, the box in pixels and the track of a line, for a frame of this size.

    Raises:
        ValueError: Not a label; the message says what was expected.
    """
    words = line.split()
    try:
        class_id, values = float(words[0]), [float(word) for word in words[1:]]
    except ValueError:
        raise ValueError("expected numbers `class cx cy width height`") from None
    if not class_id.is_integer() or not all(map(math.isfinite, values)):
        raise ValueError("expected an integer class and finite fractions")
    if len(values) >= 6 and len(values) % 2 == 0:
        xs, ys = values[0::2], values[1::2]
        return int(class_id), _scaled(min(xs), min(ys), max(xs), max(ys), width, height), None
    if len(values) not in (4, 5):
        raise ValueError("expected 5 numbers `class cx cy width height`, or 6 with a track")
    x, y, w, h = values[:4]
    if max(map(abs, values[:4])) > 2:
        raise ValueError("expected fractions of the frame's size, not pixels")
    if w <= 0 or h <= 0:
        raise ValueError("expected a positive width and height")
    box = _scaled(x - w / 2, y - h / 2, x + w / 2, y + h / 2, width, height)
    # Detectors write a confidence score in this column, which is not an integer.
    track = int(values[4]) if len(values) == 5 and "." not in words[5] else None
    return int(class_id), box, track


def _scaled(left: float, top: float, right: float, bottom: float, width: int, height: int) -> Box:
    # Six decimals hold no more than thousandths of a pixel; rounding keeps whole pixels whole.
    x = [round(value * width, 3) for value in (left, right)]
    y = [round(value * height, 3) for value in (top, bottom)]
    return x[0], y[0], x[1], y[1]
