"""Detections drawn on a frame."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import UInt8

from sparsevod_core.figures.labels import place_plates
from sparsevod_core.figures.shapes import draw_outline, draw_plate, draw_text, text_size
from sparsevod_core.figures.style import Color, DrawingStyle, class_color, text_color
from sparsevod_core.structures import Detections

_PLATE_OPACITY = 0.92


def draw_detections(
    image: UInt8[np.ndarray, "H W 3"],
    detections: Detections,
    class_names: Sequence[str],
    *,
    has_labels: bool = True,
) -> UInt8[np.ndarray, "H W 3"]:
    """A copy of the frame with a box, a name and a score for each detection.

    The outline runs just outside the box, so that small objects stay visible. A label that finds
    no free place in a crowd is left out, the lowest score first; its box is drawn all the same.

    Args:
        image: RGB 0..255.
        detections: what to draw, in pixels of `image`, best first.
        class_names: name of each label.
        has_labels: whether names and scores are drawn.
    """
    height, width = image.shape[:2]
    style = DrawingStyle.for_size(width, height)
    drawn = image.copy()
    half = style.line_px / 2
    colors = [class_color(label) for label in detections.labels.tolist()]
    outlines = detections.boxes_xyxy + half * np.array([-1, -1, 1, 1])
    outlines = outlines.clip(half, np.array([width, height] * 2) - half)
    for (x1, y1, x2, y2), color in zip(outlines[::-1].tolist(), colors[::-1], strict=True):
        draw_outline(drawn, (x1, y1, x2, y2), style.radius_px, style.line_px, color)  # best on top
    if not has_labels:
        return drawn

    names = [class_names[label] for label in detections.labels.tolist()]
    scores = [f"{score:.2f}" for score in detections.scores.tolist()]
    sizes = [_plate_size(*texts, style) for texts in zip(names, scores, strict=True)]
    extents = outlines + half * np.array([-1, -1, 1, 1])
    corners = place_plates(extents, sizes, (width, height))
    labels = zip(corners, sizes, names, scores, colors, strict=True)
    for corner, size, name, score, color in labels:
        if corner is not None:
            _draw_label(drawn, corner, size, name, score, color, style)
    return drawn


def _plate_size(name: str, score: str, style: DrawingStyle) -> tuple[int, int]:
    name_width, text_height = text_size(name, font_px=style.font_px, bold=True)
    score_width, _ = text_size(score, font_px=style.font_px, bold=False)
    return name_width + score_width + 3 * style.padding_px, text_height


def _draw_label(
    image: np.ndarray,
    corner: tuple[int, int],
    size: tuple[int, int],
    name: str,
    score: str,
    color: Color,
    style: DrawingStyle,
) -> None:
    (x, y), (width, height) = corner, size
    plate = (float(x), float(y), float(x + width), float(y + height))
    draw_plate(image, plate, style.radius_px, color, _PLATE_OPACITY)
    ink = text_color(color)
    x += style.padding_px
    draw_text(image, x, y, name, font_px=style.font_px, bold=True, color=ink)
    x += text_size(name, font_px=style.font_px, bold=True)[0] + style.padding_px
    draw_text(image, x, y, score, font_px=style.font_px, bold=False, color=ink)
