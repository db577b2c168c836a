"""How detections look everywhere: one colour per class, sizes by resolution."""

from __future__ import annotations

import colorsys
from dataclasses import dataclass

Color = tuple[float, float, float]
"""Red, green, blue in 0..1 (sRGB)."""

_PALETTE = (
    "ff5a52", "3d9bff", "3ad35c", "ff9f1a", "c26bff", "ffd60a", "35d0f0", "ff6fb5", "00c2a8",
    "b5926a", "a6e22e", "8a93ff", "ff8a65", "7fd1ae", "e478ff", "ffbe85", "5aa7c7", "d4c15a",
    "f2a0a0", "7ea832",
)  # fmt: skip
_GOLDEN_ANGLE = 0.381966  # of the colour circle: successive hues stay far apart

_INK_DARK: Color = (0.07, 0.08, 0.09)
_INK_BRIGHT: Color = (1.0, 1.0, 1.0)


def class_color(label: int) -> Color:
    """The colour of class `label` (0 or more), always the same; the first 20 are chosen by hand."""
    if label < len(_PALETTE):
        red, green, blue = bytes.fromhex(_PALETTE[label])
        return red / 255, green / 255, blue / 255
    turn = label - len(_PALETTE)
    brightness = (1.0, 0.85, 0.7)[turn % 3]
    return colorsys.hsv_to_rgb((0.03 + turn * _GOLDEN_ANGLE) % 1, 0.6, brightness)


def text_color(background: Color) -> Color:
    """Dark or bright, whichever is read better on `background` (contrast as WCAG 2 defines it)."""
    luminance = _luminance(background)
    on_dark = (luminance + 0.05) / (_luminance(_INK_DARK) + 0.05)
    on_bright = (_luminance(_INK_BRIGHT) + 0.05) / (luminance + 0.05)
    return _INK_DARK if on_dark >= on_bright else _INK_BRIGHT


@dataclass(frozen=True, slots=True)
class DrawingStyle:
    """Sizes in pixels for a picture; they grow with it, so that a full-screen view looks the same.

    Attributes:
        line_px: thickness of a box's outline.
        font_px: size of the label's font.
        padding_px: free space around the text on its plate.
        radius_px: radius of rounded corners.
    """

    line_px: float
    font_px: int
    padding_px: int
    radius_px: float

    @classmethod
    def for_size(cls, width: int, height: int) -> DrawingStyle:
        """The sizes for a picture of `width` times `height` pixels."""
        # Between the sides' geometric mean and the short side, so that a panorama stays readable.
        scale = (min(width, height) * (width * height) ** 0.5) ** 0.5 / 720
        font_px = max(round(15 * scale), 10)
        return cls(
            line_px=max(2.2 * scale, 1.5),
            font_px=font_px,
            padding_px=max(round(font_px * 0.28), 2),
            radius_px=font_px * 0.22,
        )


def _luminance(color: Color) -> float:
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in color]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
