"""Two images of a frame side by side, with a title above each."""

from __future__ import annotations

import numpy as np
from jaxtyping import UInt8

from sparsevod_core.figures.shapes import draw_text, text_size
from sparsevod_core.figures.style import BoxStyle

_BACKGROUND = 18  # gray value
_INK = (0.92, 0.93, 0.95)


def size_side_by_side(width: int, height: int) -> tuple[int, int]:
    """Return the width and height of `side_by_side` for images of `width` x `height` pixels."""
    gap, strip = _spaces(width, height)
    return 2 * width + gap, height + strip


def side_by_side(
    left: UInt8[np.ndarray, "h w 3"],
    right: UInt8[np.ndarray, "h w 3"],
    titles: tuple[str, str],
) -> UInt8[np.ndarray, "H W 3"]:
    """Return two images of the same size side by side; a title wider than its image is omitted."""
    height, width = left.shape[:2]
    gap, strip = _spaces(width, height)
    joined = np.full((height + strip, 2 * width + gap, 3), _BACKGROUND, np.uint8)
    style = BoxStyle.for_size(width, height)
    for number, (image, title) in enumerate(zip((left, right), titles, strict=True)):
        x = number * (width + gap)
        joined[strip:, x : x + width] = image
        text_width, text_height = text_size(title, font_px=style.font_px, bold=True)
        if text_width <= width:
            corner = x + (width - text_width) // 2, (strip - text_height) // 2
            draw_text(joined, *corner, title, font_px=style.font_px, bold=True, color=_INK)
    return joined


def _spaces(width: int, height: int) -> tuple[int, int]:
    """Return the number of pixels between the images, and above them."""
    style = BoxStyle.for_size(width, height)
    _, text_height = text_size("single", font_px=style.font_px, bold=True)
    return 2 * style.padding_px, text_height + 2 * style.padding_px
