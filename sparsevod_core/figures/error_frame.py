"""Drawing of a frame with its correct, wrong and missed detections."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, UInt8

from sparsevod_core.figures.labels import draw_label, label_size, place_labels
from sparsevod_core.figures.shapes import draw_outline, draw_plate
from sparsevod_core.figures.style import BoxStyle, Color, TextPart

GROUND_TRUTH: Color = (1.0, 1.0, 1.0)
CORRECT: Color = (0.16, 0.8, 0.45)
WRONG_CLASS: Color = (1.0, 0.82, 0.1)
FALSE_ALARM: Color = (0.93, 0.42, 0.95)
MISSED: Color = (1.0, 0.24, 0.16)
_SEAM: Color = (0.05, 0.05, 0.05)
_MISSED_OPACITY = 0.28


@dataclass(frozen=True, slots=True, eq=False)
class DrawnBox:
    """A ground-truth box, a detected box, or both together.

    Attributes:
        color: `CORRECT`, `WRONG_CLASS`, `FALSE_ALARM` or `MISSED`.
        text: Text of the label.
        true_xyxy, found_xyxy: Ground-truth and detected box in pixels of the frame; one may be
            None.
    """

    color: Color
    text: str
    true_xyxy: Float[np.ndarray, " 4"] | None
    found_xyxy: Float[np.ndarray, " 4"] | None


def draw_errors(
    image: UInt8[np.ndarray, "H W 3"], boxes: Sequence[DrawnBox], *, scale: float = 1.0
) -> UInt8[np.ndarray, "h w 3"]:
    """Return a copy of the frame with solid detected, dashed ground-truth and filled missed boxes.

    Args:
        image: RGB 0..255.
        boxes: Most important first, which is the order in which labels are placed.
        scale: Scale of the copy. Lines and labels have the size that suits the copy.
    """
    drawn = _scaled(image, scale)
    height, width = drawn.shape[:2]
    style = BoxStyle.for_size(width, height)
    limits = np.array([width, height, width, height])
    half = style.line_px / 2
    extents = []
    for box in boxes[::-1]:
        true, found = (
            None if one is None else np.clip(one * scale, half, limits - half)
            for one in (box.true_xyxy, box.found_xyxy)
        )
        if true is not None and found is None:
            draw_plate(drawn, _corners(true), 0, box.color, _MISSED_OPACITY)
            _draw_dashes(drawn, true, 1.4 * style.line_px, box.color)
        elif true is not None:
            _draw_dashes(drawn, true, 0.7 * style.line_px, GROUND_TRUTH)
        if found is not None:
            draw_outline(drawn, _corners(found), style.radius_px, style.line_px, box.color)
        extent = found if true is None else true
        assert extent is not None, "nothing to draw"
        extents.append(extent + half * np.array([-1, -1, 1, 1]))
    labels = [(TextPart(box.text),) for box in boxes]
    sizes = [label_size(label, style) for label in labels]
    corners = place_labels(np.reshape(extents[::-1], (-1, 4)), sizes, (width, height))
    for box, corner, label in zip(boxes, corners, labels, strict=True):
        if corner is not None:
            draw_label(drawn, corner, label, box.color, style)
    return drawn


def _scaled(image: np.ndarray, scale: float) -> np.ndarray:
    if scale == 1:
        return image.copy()
    import cv2

    size = [max(round(side * scale), 1) for side in image.shape[1::-1]]
    shrinks = scale < 1
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)


def _corners(box_xyxy: np.ndarray) -> tuple[float, float, float, float]:
    x1, y1, x2, y2 = box_xyxy.tolist()
    return x1, y1, x2, y2


def _draw_dashes(image: np.ndarray, box_xyxy: np.ndarray, line_px: float, color: Color) -> None:
    """Draw a dashed border on a dark seam that separates it from the image."""
    x1, y1, x2, y2 = box_xyxy.tolist()
    half = line_px / 2
    for width, opacity, paint in ((half + 0.8, 0.45, _SEAM), (half, 1.0, color)):
        for low, high, is_across, at in (
            (x1, x2, True, y1),
            (x1, x2, True, y2),
            (y1, y2, False, x1),
            (y1, y2, False, x2),
        ):
            # With an odd number of dashes and gaps of about equal length, dashes meet in corners.
            count = 2 * max(round((high - low) / (6 * line_px)), 1) - 1
            ends = np.linspace(low, high, count + 1).tolist()
            for start, stop in zip(ends[::2], ends[1::2], strict=True):
                along, side = (start - width, stop + width), (at - width, at + width)
                (left, right), (top, bottom) = (along, side) if is_across else (side, along)
                draw_plate(image, (left, top, right, bottom), 0, paint, opacity)
