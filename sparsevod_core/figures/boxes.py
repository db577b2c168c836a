"""Detections drawn on a frame; `style.py` decides what boxes and labels look like."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import UInt8

from sparsevod_core.figures.labels import draw_label, label_size, place_labels
from sparsevod_core.figures.shapes import draw_outline
from sparsevod_core.figures.style import BoxStyle, class_color, detection_label
from sparsevod_core.structures import Detections


def draw_detections(
    image: UInt8[np.ndarray, "H W 3"],
    detections: Detections,
    class_names: Sequence[str],
    *,
    has_labels: bool = True,
) -> UInt8[np.ndarray, "H W 3"]:
    """Return a copy of the frame with a box and a label for each detection.

    The outline runs just outside the box, so that small objects stay visible. If a crowd leaves no
    room for all labels, those with the lowest scores are omitted; their boxes are drawn.

    Args:
        image: RGB in 0..255.
        detections: Detections in pixels of `image`, best first.
        class_names: Name of each label.
        has_labels: If False, draw boxes without labels.
    """
    height, width = image.shape[:2]
    style = BoxStyle.for_size(width, height)
    drawn = image.copy()
    half = style.line_px / 2
    colors = [class_color(label) for label in detections.labels.tolist()]
    outlines = detections.boxes_xyxy + half * np.array([-1, -1, 1, 1])
    outlines = outlines.clip(half, np.array([width, height] * 2) - half)
    for (x1, y1, x2, y2), color in zip(outlines[::-1].tolist(), colors[::-1], strict=True):
        draw_outline(drawn, (x1, y1, x2, y2), style.radius_px, style.line_px, color)  # best on top
    if not has_labels:
        return drawn

    labels = [
        detection_label(class_names[one.label], one.score, one.track_id) for one in detections
    ]
    sizes = [label_size(label, style) for label in labels]
    extents = outlines + half * np.array([-1, -1, 1, 1])
    corners = place_labels(extents, sizes, (width, height))
    for corner, label, color in zip(corners, labels, colors, strict=True):
        if corner is not None:
            draw_label(drawn, corner, label, color, style)
    return drawn
