"""Two pictures of a frame beside one another, with a title above each."""

from __future__ import annotations

import numpy as np
from jaxtyping import UInt8

from sparsevod_core.figures.shapes import draw_text, text_size
from sparsevod_core.figures.style import DrawingStyle

_PAPER = 18  # grey value
_INK = (0.92, 0.93, 0.95)


def size_side_by_side(width: int, height: int) -> tuple[int, int]:
    """Width and height of `side_by_side` for pictures of `width` times `height` pixels."""
    gap, strip = _spaces(width, height)
    return 2 * width + gap, height + strip


def side_by_side(
    left: UInt8[np.ndarray, "h w 3"],
    right: UInt8[np.ndarray, "h w 3"],
    titles: tuple[str, str],
) -> UInt8[np.ndarray, "H W 3"]:
    """The pictures, which have one size; a title that is wider than its picture is left out."""
    height, width = left.shape[:2]
    gap, strip = _spaces(width, height)
    whole = np.full((height + strip, 2 * width + gap, 3), _PAPER, np.uint8)
    style = DrawingStyle.for_size(width, height)
    for number, (picture, title) in enumerate(zip((left, right), titles, strict=True)):
        x = number * (width + gap)
        whole[strip:, x : x + width] = picture
        text_width, text_height = text_size(title, font_px=style.font_px, bold=True)
        if text_width <= width:
            middle = x + (width - text_width) // 2, (strip - text_height) // 2
            draw_text(whole, *middle, title, font_px=style.font_px, bold=True, color=_INK)
    return whole


def _spaces(width: int, height: int) -> tuple[int, int]:
    """Pixels between the pictures, and above them."""
    style = DrawingStyle.for_size(width, height)
    _, text_height = text_size("single", font_px=style.font_px, bold=True)
    return 2 * style.padding_px, text_height + 2 * style.padding_px
