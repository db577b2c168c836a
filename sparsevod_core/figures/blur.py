"""What is inside of boxes made unrecognisable."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, UInt8

_CELLS = 6  # that remain of the longer side
_MARGIN = 0.08  # of the box on each side: boxes are not exact


def blur_boxes(
    image: UInt8[np.ndarray, "H W 3"], boxes_xyxy: Float[np.ndarray, "M 4"]
) -> UInt8[np.ndarray, "H W 3"]:
    """A copy in which at most 6 by 6 averages remain of each box and its margin.

    Unlike a Gaussian blur, an average of many pixels cannot be sharpened again.

    Args:
        image: RGB 0..255.
        boxes_xyxy: in pixels of `image`.
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
