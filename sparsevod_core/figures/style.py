"""The look of boxes and labels in videos, images and figures: change it here.

Colors, line widths, font sizes, opacities and the text of a label are decided in this file.
`boxes.py` and `labels.py` draw them on frames, `shapes.py` draws the pixels. Only the colors of
correct and wrong detections are in `error_frame.py`.
"""

from __future__ import annotations

import colorsys
from dataclasses import dataclass

Color = tuple[float, float, float]
"""Red, green, blue in 0..1 (sRGB)."""

PLATE_OPACITY = 0.92  # of the rectangle behind a label
SEAM_WIDTH = 0.35  # of the dark seam along a line, relative to the line
SEAM_OPACITY = 0.35

# DejaVu Sans comes with matplotlib: the same letters on every machine, and most alphabets.
REGULAR_FONT, BOLD_FONT = "DejaVuSans.ttf", "DejaVuSans-Bold.ttf"

_PALETTE = (
    "ff5a52", "3d9bff", "3ad35c", "ff9f1a", "c26bff", "ffd60a", "35d0f0", "ff6fb5", "00c2a8",
    "b5926a", "a6e22e", "8a93ff", "ff8a65", "7fd1ae", "e478ff", "ffbe85", "5aa7c7", "d4c15a",
    "f2a0a0", "7ea832",
)  # fmt: skip
_GOLDEN_ANGLE = 0.381966  # of the color circle: successive hues stay far apart

_DARK_INK: Color = (0.07, 0.08, 0.09)
_BRIGHT_INK: Color = (1.0, 1.0, 1.0)


def class_color(label: int) -> Color:
    """Return the color of class `label` (0 or more); the first 20 are chosen by hand."""
    if label < len(_PALETTE):
        red, green, blue = bytes.fromhex(_PALETTE[label])
        return red / 255, green / 255, blue / 255
    turn = label - len(_PALETTE)
    brightness = (1.0, 0.85, 0.7)[turn % 3]
    return colorsys.hsv_to_rgb((0.03 + turn * _GOLDEN_ANGLE) % 1, 0.6, brightness)


def text_color(background: Color) -> Color:
    """Return a dark or bright color, whichever has the higher contrast (WCAG 2)."""
    luminance = _luminance(background)
    on_dark = (luminance + 0.05) / (_luminance(_DARK_INK) + 0.05)
    on_bright = (_luminance(_BRIGHT_INK) + 0.05) / (luminance + 0.05)
    return _DARK_INK if on_dark >= on_bright else _BRIGHT_INK


@dataclass(frozen=True, slots=True)
class TextPart:
    """A part of a label's text."""

    text: str
    is_bold: bool = False


def detection_label(
    class_name: str, score: float, track_id: int | None = None
) -> tuple[TextPart, ...]:
    """Return the label of a detection: `car 0.75`, or `car #3 0.75` with the id of its track."""
    name = class_name if track_id is None else f"{class_name} #{track_id}"
    return TextPart(name, is_bold=True), TextPart(f"{score:.2f}")


@dataclass(frozen=True, slots=True)
class BoxStyle:
    """Sizes in pixels; they grow with the image, so that it looks the same on a full screen.

    Attributes:
        line_px: Thickness of a box's outline.
        font_px: Font size of labels.
        padding_px: Space around the parts of a label's text.
        radius_px: Radius of rounded corners.
    """

    line_px: float
    font_px: int
    padding_px: int
    radius_px: float

    @classmethod
    def for_size(cls, width: int, height: int) -> BoxStyle:
        """Return the sizes for an image of `width` x `height` pixels."""
        # Between the geometric mean of the sides and the short side: panoramas stay readable.
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
