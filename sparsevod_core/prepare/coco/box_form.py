"""Check that boxes are [x, y, width, height] in pixels, as COCO has them.

Some tools write corners [x1, y1, x2, y2], or fractions of the image. Read as sizes, these are boxes
that look possible, so a file is refused where it shows that it has another form.
"""

from __future__ import annotations

import numpy as np

from sparsevod_core.data.annotation_columns import as_numbers
from sparsevod_core.errors import DataError
from sparsevod_core.prepare.coco.entries import CocoEntries

_CLOSE = 0.01
_FAR = 1.1
"""A box that reaches this far, relative to the image, does not only leave it by rounding."""
_MOST = 0.9
"""Share of the boxes that must show another form; the others may be broken in other ways."""


def require_sizes_in_pixels(entries: CocoEntries) -> None:
    """Check the form of the boxes of a file.

    Raises:
        DataError: the boxes are corners, as `area` or the image sizes show, or fractions.
    """
    is_used = entries.image_of_box >= 0
    boxes_xywh = as_numbers(entries.annotations.boxes_xywh).reshape(-1, 4)[is_used]
    if not len(boxes_xywh):
        return
    x, y, width, height = boxes_xywh.T
    if (boxes_xywh >= 0).all() and (boxes_xywh <= 1).all():
        got = "fractions of the image"
        shown = "all of them are within 0..1"
        raise _another_form(entries, len(boxes_xywh), got, shown)
    area = as_numbers(entries.annotations.areas)[is_used]
    image = entries.image_of_box[is_used]
    image_width = as_numbers(entries.images.widths)[image]
    image_height = as_numbers(entries.images.heights)[image]
    with np.errstate(over="ignore", invalid="ignore"):
        are_corners = (width > x) & (height > y)
        of_corners, of_sizes = (width - x) * (height - y), width * height
        shown_by_area = are_corners & _is_close(area, of_corners) & ~_is_close(area, of_sizes)
        fits = are_corners & (width <= image_width + 1) & (height <= image_height + 1)
        leaves = (x + width > _FAR * image_width) | (y + height > _FAR * image_height)
    num_areas, num_sizes = int((area > 0).sum()), int((image_width * image_height > 0).sum())
    got = "corners [x1, y1, x2, y2]"
    if num_areas and shown_by_area.sum() >= _MOST * num_areas:
        raise _another_form(entries, len(boxes_xywh), got, "as `area` shows")
    has_no_area = num_areas == 0 and num_sizes == len(boxes_xywh)
    if has_no_area and fits.all() and 2 * leaves.sum() >= len(boxes_xywh):
        shown = f"{leaves.sum()} would leave their image as sizes, none as corners"
        raise _another_form(entries, len(boxes_xywh), got, shown)


def _is_close(area: np.ndarray, other: np.ndarray) -> np.ndarray:
    return np.abs(area - other) <= _CLOSE * np.maximum(np.abs(area), 1)


def _another_form(entries: CocoEntries, count: int, got: str, shown: str) -> DataError:
    return DataError(
        f"{entries.path}: bbox: expected [x, y, width, height] in pixels, got {got} in the "
        f"{count} annotations: {shown}",
        hint="convert bbox to x, y, width, height in pixels",
    )
