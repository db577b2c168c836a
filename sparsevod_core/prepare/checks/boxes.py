"""Sizes, shapes and positions of boxes, and boxes that are probably mistakes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
from jaxtyping import Bool, Int

from sparsevod_core.config import Config
from sparsevod_core.data.records import VideoSet
from sparsevod_core.prepare.checks.findings import Finding, Severity, box_label, find, frame_label
from sparsevod_core.prepare.checks.statistics import BoxColumns, Histogram, histogram

SIDE_EDGES_PX = 2.0 ** np.arange(1, 11.5, 0.5)
"""Histogram edges of a box's side (the root of its area): 2 to 2048 pixels."""
_ASPECT_EDGES = 2.0 ** np.arange(-4, 4.25, 0.25)  # of width / height: 1:16 to 16:1
_CENTER_CELLS = 32
_SMALL_AREA_PX2, _LARGE_AREA_PX2 = 32**2, 96**2  # as in COCO
_MIN_SIDE_PX = 8.0  # two cells of the finest pyramid level
_TOLERANCE_PX = 1.0  # 1-based or inclusive coordinates are not worth a finding
_MAX_ASPECT = 10.0
_DUPLICATE_IOU = 0.95


@dataclass(frozen=True, slots=True)
class BoxSizes:
    """Sizes of some boxes; the side of a box is the root of its area.

    Attributes:
        small, medium, large: Numbers of boxes below 32², up to 96², and above, in pixels.
        below_8_px: Number of boxes with a side below 8 pixels in frames resized for training.
        median_side_px: Median side in pixels; None without boxes.
        median_side_share: Median side relative to the frame's side; None without boxes.
    """

    small: int
    medium: int
    large: int
    below_8_px: int
    median_side_px: float | None
    median_side_share: float | None


@dataclass(frozen=True, slots=True)
class BoxCounts:
    """Measurements of all boxes and of each class.

    Attributes:
        boxes: Number of boxes, including crowds.
        crowds: Number of crowd boxes.
        all: Sizes of all boxes.
        per_class: Sizes of each class, in the file's order.
        sides_per_class: Histogram of sides (`SIDE_EDGES_PX`) of each class.
        aspect: Histogram of width / height.
        centers: Number of box centers in each of 32x32 cells of the frame.
    """

    boxes: int
    crowds: int
    all: BoxSizes
    per_class: tuple[BoxSizes, ...]
    sides_per_class: Int[np.ndarray, "K bins"]
    aspect: Histogram
    centers: Int[np.ndarray, "rows columns"]


def check_boxes(
    videos: VideoSet, columns: BoxColumns, config: Config
) -> tuple[BoxCounts, list[Finding]]:
    """Measure all boxes and find unusual ones, for training with `config`."""
    tables = videos.tables
    widths, heights = columns.widths, columns.heights
    sides = np.sqrt(widths * heights)
    shares = sides / np.sqrt(columns.frame_sizes.prod(axis=1))
    short, long = columns.frame_sizes.min(axis=1), columns.frame_sizes.max(axis=1)
    scales = np.minimum(config.data.short_side / short, config.data.long_side / long)
    is_fine = np.minimum(widths, heights) * scales < _MIN_SIDE_PX
    per_class = np.split(
        np.argsort(tables.labels, kind="stable"),
        np.cumsum(np.bincount(tables.labels, minlength=len(videos.categories)))[:-1],
    )

    def sizes(chosen: Int[np.ndarray, " n"]) -> BoxSizes:
        small = int((sides[chosen] ** 2 < _SMALL_AREA_PX2).sum())
        large = int((sides[chosen] ** 2 > _LARGE_AREA_PX2).sum())
        return BoxSizes(
            small=small,
            medium=len(chosen) - small - large,
            large=large,
            below_8_px=int(is_fine[chosen].sum()),
            median_side_px=float(np.median(sides[chosen])) if len(chosen) else None,
            median_side_share=float(np.median(shares[chosen])) if len(chosen) else None,
        )

    has_area = sides > 0
    centers = (tables.boxes_xyxy[:, :2] + tables.boxes_xyxy[:, 2:]) / 2
    cells = centers / columns.frame_sizes[:, ::-1] * _CENTER_CELLS
    columns_, rows = cells.clip(0, _CENTER_CELLS - 1).astype(np.int64).T
    flat = np.bincount(rows * _CENTER_CELLS + columns_, minlength=_CENTER_CELLS**2)
    counts = BoxCounts(
        boxes=len(sides),
        crowds=int(tables.is_crowd.sum()),
        all=sizes(np.arange(len(sides))),
        per_class=tuple(map(sizes, per_class)),
        sides_per_class=np.stack([histogram(sides[n], SIDE_EDGES_PX).counts for n in per_class]),
        aspect=histogram(widths[has_area] / heights[has_area], _ASPECT_EDGES),
        centers=flat.reshape(_CENTER_CELLS, _CENTER_CELLS),
    )
    return counts, list(_findings(videos, columns, counts, config.model.num_proposals))


def _findings(
    videos: VideoSet, columns: BoxColumns, counts: BoxCounts, num_proposals: int
) -> Iterator[Finding]:
    tables = videos.tables
    widths, heights = columns.widths, columns.heights
    frame_heights, frame_widths = columns.frame_sizes.T
    left, top, right, bottom = tables.boxes_xyxy.T

    def boxes(
        key: str, severity: Severity, text: str, chosen: Bool[np.ndarray, " M"], advice: str = ""
    ) -> list[Finding]:
        name = partial(box_label, videos)
        return find(key, severity, text, np.flatnonzero(chosen), name, advice)

    flat = np.minimum(widths, heights) < 1
    outside = (right <= 0) | (bottom <= 0) | (left >= frame_widths) | (top >= frame_heights)
    larger = (widths > frame_widths + _TOLERANCE_PX) | (heights > frame_heights + _TOLERANCE_PX)
    beyond = np.maximum(right - frame_widths, bottom - frame_heights)
    leaving = np.maximum(beyond, -np.minimum(left, top)) > _TOLERANCE_PX
    whole = (left <= 0) & (top <= 0) & (right >= frame_widths - 1) & (bottom >= frame_heights - 1)
    with np.errstate(divide="ignore", invalid="ignore"):
        aspect = np.maximum(widths / heights, heights / widths)

    yield from _other_formats(columns.frame_sizes, tables.boxes_xyxy, leaving)
    yield from boxes("boxes_outside", "problem", "boxes completely outside the frame", outside)
    text = "boxes wider or higher than the frame"
    yield from boxes("boxes_larger_than_frame", "problem", text, larger & ~outside)
    text = "boxes that leave the frame by more than a pixel"
    leaving &= ~outside & ~larger
    yield from boxes("boxes_leaving", "remark", text, leaving, "training clips them")
    text, advice = "boxes less than a pixel wide or high", "training ignores boxes without area"
    yield from boxes("flat_boxes", "problem", text, flat, advice)
    text = "boxes that touch all four borders of the frame"
    yield from boxes("whole_image_boxes", "remark", text, whole & ~larger)
    text = f"boxes with an aspect ratio above {_MAX_ASPECT:g}"
    yield from boxes("extreme_aspect", "remark", text, (aspect > _MAX_ASPECT) & ~flat)
    text = f"boxes that duplicate another one of the same class and frame (IoU > {_DUPLICATE_IOU})"
    yield from boxes("duplicate_boxes", "problem", text, _duplicates(videos, columns))
    advice = "not trained on, and ignored in evaluation"
    yield from boxes("crowds", "remark", "boxes around groups (iscrowd)", tables.is_crowd, advice)
    if counts.all.below_8_px:
        text = f"boxes with a side below {_MIN_SIDE_PX:g} px in frames resized for training"
        advice = "hard to detect; raise data.short_side and data.long_side"
        yield Finding("small_after_resizing", "remark", text, counts.all.below_8_px, advice=advice)
    crowded = np.flatnonzero(np.diff(tables.box_starts) > num_proposals)
    text = f"frames with more boxes than the model has proposals ({num_proposals})"
    name, advice = partial(frame_label, videos), "raise model.num_proposals"
    yield from find("crowded_frames", "problem", text, crowded, name, advice)


def _other_formats(
    frame_sizes: np.ndarray, boxes_xyxy: np.ndarray, leaving: np.ndarray
) -> Iterator[Finding]:
    """Find boxes that are not in COCO's format, [x, y, width, height] in pixels."""
    if not len(boxes_xyxy):
        return
    low, sizes = boxes_xyxy[:, :2], boxes_xyxy[:, 2:] - boxes_xyxy[:, :2]
    could_be_corners = ((sizes > low) & (sizes <= frame_sizes[:, ::-1] + _TOLERANCE_PX)).all(axis=1)
    if boxes_xyxy.max() <= 2 and frame_sizes.min() > 8:
        text, advice = "boxes that look relative to the frame (0 to 1)", "COCO's bbox is in pixels"
        yield Finding("relative_boxes", "problem", text, len(boxes_xyxy), advice=advice)
    elif leaving.mean() > 0.25 and could_be_corners.mean() > 0.99:
        text = "boxes that look like corners [x1, y1, x2, y2]"
        advice = "COCO's bbox is [x, y, width, height]"
        yield Finding("corner_boxes", "problem", text, len(boxes_xyxy), advice=advice)


def _duplicates(videos: VideoSet, columns: BoxColumns) -> Bool[np.ndarray, " M"]:
    """Return True for the later of two nearly identical boxes of one class in one frame."""
    tables = videos.tables
    key = columns.frames * len(videos.categories) + tables.labels
    order = np.lexsort((tables.is_crowd, key))
    key, boxes = key[order], tables.boxes_xyxy[order].astype(np.float64)
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
    is_duplicate = np.zeros(len(key), bool)
    firsts = np.arange(len(key))
    # Boxes with the same key are adjacent. Compare each with the one `shift` places later, and drop
    # those without such a neighbor, which have none farther away either.
    for shift in range(1, len(key)):
        firsts = firsts[firsts + shift < len(key)]
        firsts = firsts[key[firsts + shift] == key[firsts]]
        if not len(firsts):
            break
        first, second = boxes[firsts], boxes[firsts + shift]
        sides = np.minimum(first[:, 2:], second[:, 2:]) - np.maximum(first[:, :2], second[:, :2])
        overlap = sides.clip(min=0).prod(axis=1)
        union = areas[firsts] + areas[firsts + shift] - overlap
        is_duplicate[order[firsts[overlap > _DUPLICATE_IOU * union] + shift]] = True
    return is_duplicate & ~tables.is_crowd
