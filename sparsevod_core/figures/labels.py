"""Labels of boxes: their size, their placement inside the image without overlaps, and drawing."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, UInt8

from sparsevod_core.figures.shapes import draw_plate, draw_text, text_size
from sparsevod_core.figures.style import PLATE_OPACITY, BoxStyle, Color, TextPart, text_color

_CLEARANCE_PX = 1.0
_SEARCH_STEPS = 6  # maximum distance of a label from its box, in label heights


def label_size(parts: Sequence[TextPart], style: BoxStyle) -> tuple[int, int]:
    """Return the width and height in pixels of a label, including its plate."""
    sizes = [text_size(part.text, font_px=style.font_px, bold=part.is_bold) for part in parts]
    width = sum(width for width, _ in sizes) + (len(parts) + 1) * style.padding_px
    return width, sizes[0][1]


def draw_label(
    image: UInt8[np.ndarray, "H W 3"],
    corner: tuple[int, int],
    parts: Sequence[TextPart],
    color: Color,
    style: BoxStyle,
) -> None:
    """Draw a label on a plate of this color with its upper left corner at `corner`, in place."""
    x, y = corner
    width, height = label_size(parts, style)
    plate = (float(x), float(y), float(x + width), float(y + height))
    draw_plate(image, plate, style.radius_px, color, PLATE_OPACITY)
    ink = text_color(color)
    for part in parts:
        x += style.padding_px
        draw_text(image, x, y, part.text, font_px=style.font_px, bold=part.is_bold, color=ink)
        x += text_size(part.text, font_px=style.font_px, bold=part.is_bold)[0]


def place_labels(
    boxes_xyxy: Float[np.ndarray, "M 4"],
    label_sizes: Sequence[tuple[int, int]],
    image_size: tuple[int, int],
) -> list[tuple[int, int] | None]:
    """Return the upper left corner of each box's label; None if no room is left.

    The first box chooses first. The best place is on top of the box's upper left corner; places
    that cover other boxes, or the label's own box, are worse.

    Args:
        boxes_xyxy: Boxes including their outline, most important first.
        label_sizes: (width, height) of each label in pixels.
        image_size: (width, height) of the image in pixels.
    """
    placed = np.empty((0, 4))
    corners: list[tuple[int, int] | None] = []
    for number, (width, height) in enumerate(label_sizes):
        if width > image_size[0] or height > image_size[1]:
            corners.append(None)
            continue
        wanted = _candidates(boxes_xyxy[number], width, height)
        size = np.array([width, height])
        low = np.round(np.clip(wanted, 0, image_size - size))
        labels = np.concatenate([low, low + size], axis=1)
        moved = np.abs(low - wanted).sum(axis=1) / height
        covered = _overlaps(labels, boxes_xyxy) / (width * height)
        covered[:, number] *= 0.5
        cost = _BASE_COST + moved + covered.sum(axis=1).clip(max=2)
        cost[_overlaps(labels, placed, _CLEARANCE_PX).any(axis=1)] = np.inf
        best = int(cost.argmin())
        if np.isinf(cost[best]):
            corners.append(None)
            continue
        placed = np.concatenate([placed, labels[best : best + 1]])
        corners.append((int(low[best, 0]), int(low[best, 1])))
    return corners


def _candidates(box_xyxy: np.ndarray, width: int, height: int) -> Float[np.ndarray, "P 2"]:
    """Return upper left corners: at the box's edges, beside it, then further above and below it."""
    x1, y1, x2, y2 = box_xyxy.tolist()
    aligned = (x1, x2 - width, (x1 + x2 - width) / 2)
    at_edge = [(x, y) for y in (y1 - height, y2, y1, y2 - height) for x in aligned]
    beside = [(x, y) for x in (x2, x1 - width) for y in (y1, y2 - height)]
    away = [
        (x, y)
        for step in range(1, _SEARCH_STEPS + 1)
        for y in (y1 - (step + 1) * height, y2 + step * height, y1 + step * height)
        for x in (x1, x2 - width, x2, x1 - width)
    ]
    return np.array(at_edge + beside + away)


# Cost of each candidate: touching the box is far better than any distance.
_BASE_COST = np.concatenate([0.02 * np.arange(16), 3 + 0.1 * np.arange(12 * _SEARCH_STEPS)])


def _overlaps(
    first: np.ndarray, second: np.ndarray, clearance: float = 0.0
) -> Float[np.ndarray, "P Q"]:
    """Return the intersection areas in square pixels, with `second` enlarged by a clearance."""
    low = np.maximum(first[:, None, :2], second[None, :, :2] - clearance)
    high = np.minimum(first[:, None, 2:], second[None, :, 2:] + clearance)
    return (high - low).clip(0).prod(-1)
