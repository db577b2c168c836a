"""Anti-aliased rectangles and text on RGB pixels, by blending a color according to coverage."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float, UInt8

from sparsevod_core.figures.style import BOLD_FONT, REGULAR_FONT, SEAM_OPACITY, SEAM_WIDTH, Color

if TYPE_CHECKING:
    from PIL.ImageFont import FreeTypeFont

Rectangle = tuple[float, float, float, float]
"""x1, y1, x2, y2 in pixels; the center of the first pixel is at (0.5, 0.5)."""


def draw_plate(
    image: UInt8[np.ndarray, "H W 3"],
    rectangle: Rectangle,
    radius: float,
    color: Color,
    opacity: float,
) -> None:
    """Fill a rectangle with rounded corners, in place."""
    x1, y1, x2, y2 = rectangle
    window = _window(image, x1 - 1, y1 - 1, x2 + 1, y2 + 1)
    distance = _distance(window, rectangle, radius)
    _blend(image[window], np.clip(0.5 - distance, 0, 1) * opacity, color)


def draw_outline(
    image: UInt8[np.ndarray, "H W 3"],
    rectangle: Rectangle,
    radius: float,
    thickness: float,
    color: Color,
) -> None:
    """Draw a line along the border of a rectangle with rounded corners, in place.

    A faint dark seam on both sides keeps it visible on a background of the same color.
    """
    x1, y1, x2, y2 = rectangle
    seam = SEAM_WIDTH * thickness
    reach = thickness / 2 + seam + 1
    left, top, right, bottom = x1 - reach, y1 - reach, x2 + reach, y2 + reach
    # Compute only four strips around the line, which meet at whole pixels.
    depth = 2 * reach + radius
    inner_top = math.floor(min(top + depth, (top + bottom) / 2))
    inner_bottom = math.floor(max(bottom - depth, inner_top))
    inner_left = math.floor(min(left + depth, (left + right) / 2))
    inner_right = math.floor(max(right - depth, inner_left))
    for strip in (
        (left, top, right, inner_top),
        (left, inner_bottom, right, bottom),
        (left, inner_top, inner_left, inner_bottom),
        (inner_right, inner_top, right, inner_bottom),
    ):
        window = _window(image, *strip)
        inside = 0.5 + thickness / 2 - np.abs(_distance(window, rectangle, radius))
        darkened = 1 - np.clip(inside + seam, 0, 1) * SEAM_OPACITY
        _blend(image[window], np.clip(inside, 0, 1), color, darkened)


def draw_text(
    image: UInt8[np.ndarray, "H W 3"],
    x: int,
    y: int,
    text: str,
    font_px: int,
    bold: bool,
    color: Color,
) -> None:
    """Draw one line of text with its upper left corner at (x, y), in place."""
    coverage = _text_coverage(text, font_px, bold)
    height, width = coverage.shape
    _blend(image[y : y + height, x : x + width], coverage, color)


def text_size(text: str, *, font_px: int, bold: bool) -> tuple[int, int]:
    """Return the width and height in pixels of a line; the height depends only on the font."""
    height, width = _text_coverage(text, font_px, bold).shape
    return width, height


def _window(
    image: np.ndarray, left: float, top: float, right: float, bottom: float
) -> tuple[slice, slice]:
    """Return the part of the image from (left, top) to (right, bottom)."""
    height, width = image.shape[:2]
    x1, x2 = (min(max(math.floor(x), 0), width) for x in (left, right))
    y1, y2 = (min(max(math.floor(y), 0), height) for y in (top, bottom))
    return slice(y1, y2), slice(x1, x2)


def _distance(
    window: tuple[slice, slice], rectangle: Rectangle, radius: float
) -> Float[np.ndarray, "h w"]:
    """Return the distance of each pixel to the border of a rounded rectangle, negative inside."""
    x1, y1, x2, y2 = rectangle
    rows, columns = (
        np.arange(part.start, part.stop, dtype=np.float32) + np.float32(0.5) for part in window
    )
    radius = min(radius, (x2 - x1) / 2, (y2 - y1) / 2)
    across = np.abs(columns - (x1 + x2) / 2) - ((x2 - x1) / 2 - radius)
    down = np.abs(rows - (y1 + y2) / 2)[:, None] - ((y2 - y1) / 2 - radius)
    outside = np.hypot(np.maximum(across, 0), np.maximum(down, 0))
    return outside + np.minimum(np.maximum(across, down), 0) - radius


def _blend(
    pixels: np.ndarray,
    coverage: Float[np.ndarray, "h w"],
    color: Color,
    brightness: Float[np.ndarray, "h w"] | float = 1.0,
) -> None:
    """Blend a color over pixels, after scaling their brightness, in place.

    `pixels` is a view of the image; at the image's border it is smaller than `coverage`.
    """
    weight = coverage[: pixels.shape[0], : pixels.shape[1]].astype(np.float32)
    kept = ((1 - weight) * brightness).astype(np.float32)
    paint = np.array(color, dtype=np.float32) * 255
    pixels[:] = pixels * kept[..., None] + (weight[..., None] * paint + np.float32(0.5))


@lru_cache(maxsize=4096)
def _text_coverage(text: str, font_px: int, bold: bool) -> Float[np.ndarray, "h w"]:
    from PIL import Image, ImageDraw

    font = _font(font_px, bold)
    ascent, descent = font.getmetrics()
    image = Image.new("L", (max(round(font.getlength(text)), 1), ascent + descent))
    ImageDraw.Draw(image).text((0, 0), text, fill=255, font=font)
    return np.asarray(image, dtype=np.float32) / 255


@lru_cache(maxsize=16)
def _font(font_px: int, bold: bool) -> FreeTypeFont:
    import matplotlib
    from PIL import ImageFont

    name = BOLD_FONT if bold else REGULAR_FONT
    return ImageFont.truetype(f"{matplotlib.get_data_path()}/fonts/ttf/{name}", font_px)
