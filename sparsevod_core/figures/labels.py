"""Where label plates go: inside the picture, at their box, never over one another."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

_CLEARANCE_PX = 1.0
_SEARCH_STEPS = 6  # plate heights that a label may be moved away from its box


def place_plates(
    boxes_xyxy: Float[np.ndarray, "M 4"],
    plate_sizes: Sequence[tuple[int, int]],
    picture_size: tuple[int, int],
) -> list[tuple[int, int] | None]:
    """The upper left corner of each box's plate; None where there is no room left.

    The first box chooses first. A plate likes best to stand on its box's upper left corner, and
    dislikes to cover other boxes, or its own.

    Args:
        boxes_xyxy: the boxes with their outline, most important first.
        plate_sizes: (width, height) of each plate in pixels.
        picture_size: (width, height) of the picture in pixels.
    """
    placed = np.empty((0, 4))
    corners: list[tuple[int, int] | None] = []
    for number, (width, height) in enumerate(plate_sizes):
        if width > picture_size[0] or height > picture_size[1]:
            corners.append(None)
            continue
        wanted = _candidates(boxes_xyxy[number], width, height)
        size = np.array([width, height])
        low = np.round(np.clip(wanted, 0, picture_size - size))
        plates = np.concatenate([low, low + size], axis=1)
        moved = np.abs(low - wanted).sum(axis=1) / height
        covered = _overlaps(plates, boxes_xyxy) / (width * height)
        covered[:, number] *= 0.5
        cost = _RELUCTANCE + moved + covered.sum(axis=1).clip(max=2)
        cost[_overlaps(plates, placed, _CLEARANCE_PX).any(axis=1)] = np.inf
        best = int(cost.argmin())
        if np.isinf(cost[best]):
            corners.append(None)
            continue
        placed = np.concatenate([placed, plates[best : best + 1]])
        corners.append((int(low[best, 0]), int(low[best, 1])))
    return corners


def _candidates(box_xyxy: np.ndarray, width: int, height: int) -> Float[np.ndarray, "P 2"]:
    """Upper left corners: at the box's edges, beside it, then ever further above and below it."""
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


# A plate that touches its box is far better than one that does not.
_RELUCTANCE = np.concatenate([0.02 * np.arange(16), 3 + 0.1 * np.arange(12 * _SEARCH_STEPS)])


def _overlaps(
    plates: np.ndarray, others: np.ndarray, clearance: float = 0.0
) -> Float[np.ndarray, "P Q"]:
    """Areas in common, in pixels."""
    low = np.maximum(plates[:, None, :2], others[None, :, :2] - clearance)
    high = np.minimum(plates[:, None, 2:], others[None, :, 2:] + clearance)
    return (high - low).clip(0).prod(-1)
