"""Sizes, shapes and places of the boxes of each class."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Int

from sparsevod_core.config import DataConfig
from sparsevod_core.data.records import VideoSet
from sparsevod_core.prepare.checks.columns import BoxColumns
from sparsevod_core.prepare.checks.distributions import (
    ASPECT_EDGES,
    CENTRE_CELLS,
    SIDE_EDGES_PX,
    Histogram,
    histogram,
)

SMALL_AREA_PX2, LARGE_AREA_PX2 = 32**2, 96**2  # COCO's
LEAST_SIDE_PX = 8.0  # two cells of the finest pyramid level


@dataclass(frozen=True, slots=True)
class BoxSizes:
    """Of some boxes; the side of a box is the root of its area.

    Attributes:
        small, medium, large: boxes below 32², up to 96², and above, in pixels as annotated.
        below_8_px: boxes whose shorter side is below 8 pixels in the frame as training sees it.
        median_side_px: None without boxes.
        median_side_share: the same relative to the frame's side; None without boxes.
    """

    small: int
    medium: int
    large: int
    below_8_px: int
    median_side_px: float | None
    median_side_share: float | None


@dataclass(frozen=True, slots=True)
class BoxCounts:
    """Of all boxes and of each class.

    Attributes:
        boxes: crowds included.
        crowds: boxes around groups.
        all: sizes of all boxes.
        per_class: sizes in the file's order of classes.
        sides_per_class: boxes by side (`SIDE_EDGES_PX`).
        aspect: of width over height.
        centres: where boxes lie, the frame cut into 32x32 cells, [row, column].
    """

    boxes: int
    crowds: int
    all: BoxSizes
    per_class: tuple[BoxSizes, ...]
    sides_per_class: Int[np.ndarray, "K bins"]
    aspect: Histogram
    centres: Int[np.ndarray, "rows columns"]


def check_boxes(videos: VideoSet, columns: BoxColumns, config: DataConfig) -> BoxCounts:
    """Measure all boxes; `config` says at what size training sees the frames."""
    tables = videos.tables
    frame_sizes = tables.sizes[columns.frames].astype(np.float32)  # [M, 2]
    widths, heights = columns.widths, columns.heights
    sides = np.sqrt(widths * heights)
    shares = sides / np.sqrt(frame_sizes.prod(axis=1))
    is_fine = np.minimum(widths, heights) * _scales(frame_sizes, config) < LEAST_SIDE_PX

    def sizes(chosen: Int[np.ndarray, " n"]) -> BoxSizes:
        return _sizes(sides[chosen], shares[chosen], is_fine[chosen])

    boxes_of_classes = np.split(
        np.argsort(tables.labels, kind="stable"),
        np.cumsum(np.bincount(tables.labels, minlength=len(videos.categories)))[:-1],
    )
    has_area = sides > 0
    return BoxCounts(
        boxes=len(sides),
        crowds=int(tables.is_crowd.sum()),
        all=sizes(np.arange(len(sides))),
        per_class=tuple(sizes(chosen) for chosen in boxes_of_classes),
        sides_per_class=np.stack(
            [histogram(sides[chosen], SIDE_EDGES_PX).counts for chosen in boxes_of_classes]
        ),
        aspect=histogram(widths[has_area] / heights[has_area], ASPECT_EDGES),
        centres=_centres(tables.boxes_xyxy, frame_sizes),
    )


def _scales(frame_sizes: np.ndarray, config: DataConfig) -> np.ndarray:
    """By how much training resizes each frame."""
    short, long = frame_sizes.min(axis=1), frame_sizes.max(axis=1)
    return np.minimum(config.short_side / short, config.long_side / long)


def _sizes(sides: np.ndarray, shares: np.ndarray, is_fine: Bool[np.ndarray, " n"]) -> BoxSizes:
    small = int((sides**2 < SMALL_AREA_PX2).sum())
    large = int((sides**2 > LARGE_AREA_PX2).sum())
    return BoxSizes(
        small=small,
        medium=len(sides) - small - large,
        large=large,
        below_8_px=int(is_fine.sum()),
        median_side_px=float(np.median(sides)) if len(sides) else None,
        median_side_share=float(np.median(shares)) if len(sides) else None,
    )


def _centres(boxes_xyxy: np.ndarray, frame_sizes: np.ndarray) -> Int[np.ndarray, "rows columns"]:
    centres = (boxes_xyxy[:, :2] + boxes_xyxy[:, 2:]) / 2 / frame_sizes[:, ::-1]
    cells = (centres * CENTRE_CELLS).clip(0, CENTRE_CELLS - 1).astype(np.int64)
    flat = np.bincount(cells[:, 1] * CENTRE_CELLS + cells[:, 0], minlength=CENTRE_CELLS**2)
    return flat.reshape(CENTRE_CELLS, CENTRE_CELLS)
