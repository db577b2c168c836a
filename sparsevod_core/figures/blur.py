"""Blurring of the content of boxes."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, UInt8

_CELLS = 6  # along the longer side
_MARGIN = 0.08  # on each side, relative to the box: boxes are not exact


def blur_boxes(
    image: UInt8[np.ndarray, "H W 3"], boxes_xyxy: Float[np.ndarray, "M 4"]
) -> UInt8[np.ndarray, "H W 3"]:
    """Return a copy in which each box, with a margin, is reduced to at most 6x6 average colors.

    Unlike a Gaussian blur, an average of many pixels cannot be undone.

    Args:
        image: RGB in 0..255.
        boxes_xyxy: Boxes in pixels of `image`.
    """
    from PIL import Image

    blurred = image.copy()
    height, width = image.shape[:2]
    for x1, y1, x2, y2 in boxes_xyxy.tolist():
        across, down = _MARGIN * (x2 - x1), _MARGIN * (y2 - y1)
        left, right = max(int(x1 - across), 0), min(int(x2 + across) + 1, width)
        top, bottom = max(int(y1 - down), 0), min(int(y2 + down) + 1, height)
        if left >= right or top >= bottom:
            continue
        size = right - left, bottom - top
        longer = max(size)
        cells = tuple(max(round(side * min(_CELLS / longer, 1)), 1) for side in size)
        part = Image.fromarray(image[top:bottom, left:right])
        few = part.resize(cells, Image.Resampling.BOX)
        blurred[top:bottom, left:right] = np.asarray(few.resize(size, Image.Resampling.BILINEAR))
    return blurred
