"""Boxes that are hardly meant so: outside, flat, doubled, as large as the frame."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from jaxtyping import Bool, Int

from sparsevod_core.config import ModelConfig
from sparsevod_core.data.records import VideoSet
from sparsevod_core.prepare.checks.boxes import LEAST_SIDE_PX, BoxCounts
from sparsevod_core.prepare.checks.columns import BoxColumns
from sparsevod_core.prepare.checks.findings import Finding, Severity, name_boxes, name_frames

TOLERANCE_PX = 1.0  # pixels counted from 1, or inclusively, are not worth a word
MAX_ASPECT = 10.0
DUPLICATE_IOU = 0.95


def find_odd_boxes(
    videos: VideoSet, columns: BoxColumns, counts: BoxCounts, model: ModelConfig
) -> Iterator[Finding]:
    """All findings about single boxes and about the boxes of a frame."""
    tables = videos.tables
    widths, heights = columns.widths, columns.heights
    frame_sizes = tables.sizes[columns.frames].astype(np.float32)
    frame_heights, frame_widths = frame_sizes.T
    left, top, right, bottom = tables.boxes_xyxy.T

    def of(
        key: str,
        severity: Severity,
        text: str,
        chosen: Bool[np.ndarray, " M"],
        advice: str = "",
    ) -> Iterator[Finding]:
        boxes = np.flatnonzero(chosen)
        if len(boxes):
            yield Finding(key, severity, text, len(boxes), name_boxes(videos, boxes), advice)

    flat = np.minimum(widths, heights) < 1
    outside = (right <= 0) | (bottom <= 0) | (left >= frame_widths) | (top >= frame_heights)
    larger = (widths > frame_widths + TOLERANCE_PX) | (heights > frame_heights + TOLERANCE_PX)
    beyond = np.maximum(right - frame_widths, bottom - frame_heights)
    leaving = np.maximum(beyond, -np.minimum(left, top)) > TOLERANCE_PX
    whole = (left <= 0) & (top <= 0) & (right >= frame_widths - 1) & (bottom >= frame_heights - 1)
    with np.errstate(divide="ignore", invalid="ignore"):
        aspect = np.maximum(widths / heights, heights / widths)

    yield from _misread(frame_sizes, tables.boxes_xyxy, leaving)
    yield from of("boxes_outside", "problem", "boxes wholly outside their frame", outside)
    text = "boxes wider or higher than their frame"
    yield from of("boxes_larger_than_frame", "problem", text, larger & ~outside)
    text = "boxes that leave their frame by more than a pixel"
    advice = "training clips them"
    yield from of("boxes_leaving", "remark", text, leaving & ~outside & ~larger, advice)
    text = "boxes less than a pixel wide or high"
    yield from of("flat_boxes", "problem", text, flat, "those without area are not trained on")
    text = "boxes that touch all four borders of their frame"
    yield from of("whole_image_boxes", "remark", text, whole & ~larger)
    text = f"boxes more than {MAX_ASPECT:g} times as long as wide"
    yield from of("extreme_aspect", "remark", text, (aspect > MAX_ASPECT) & ~flat)
    doubled = np.zeros(len(widths), bool)
    doubled[_duplicates(videos, columns)] = True
    text = f"boxes that repeat one of their class and frame (IoU > {DUPLICATE_IOU})"
    yield from of("duplicate_boxes", "problem", text, doubled)
    advice = "not trained on, and ignored in evaluation"
    yield from of("crowds", "remark", "boxes around groups (iscrowd)", tables.is_crowd, advice)
    if counts.all.below_8_px:
        text = f"boxes with a side below {LEAST_SIDE_PX:g} px in frames resized for training"
        advice = "hard to find; raise data.short_side and data.long_side"
        yield Finding("small_after_resizing", "remark", text, counts.all.below_8_px, advice=advice)
    crowded = np.flatnonzero(np.diff(tables.box_starts) > model.num_proposals)
    if len(crowded):
        text = f"frames with more boxes than the model has proposals ({model.num_proposals})"
        places = name_frames(videos, crowded)
        advice = "raise model.num_proposals"
        yield Finding("crowded_frames", "problem", text, len(crowded), places, advice)


def _misread(
    frame_sizes: np.ndarray, boxes_xyxy: np.ndarray, leaving: np.ndarray
) -> Iterator[Finding]:
    """Boxes of another form than COCO's [x, y, width, height] in pixels."""
    if not len(boxes_xyxy):
        return
    low, sizes = boxes_xyxy[:, :2], boxes_xyxy[:, 2:] - boxes_xyxy[:, :2]
    if boxes_xyxy.max() <= 2 and frame_sizes.min() > 8:
        text = "boxes that look relative to their frame (0 to 1)"
        advice = "COCO's bbox is in pixels"
        yield Finding("relative_boxes", "problem", text, len(boxes_xyxy), advice=advice)
        return
    could_be_corners = ((sizes > low) & (sizes <= frame_sizes[:, ::-1] + TOLERANCE_PX)).all(axis=1)
    if leaving.mean() > 0.25 and could_be_corners.mean() > 0.99:
        text = "boxes that look like corners [x1, y1, x2, y2]"
        advice = "COCO's bbox is [x, y, width, height]"
        yield Finding("corner_boxes", "problem", text, len(boxes_xyxy), advice=advice)


def _duplicates(videos: VideoSet, columns: BoxColumns) -> Int[np.ndarray, " n"]:
    """The later one of two boxes of one class in one frame that are nearly the same."""
    tables = videos.tables
    key = columns.frames * len(videos.categories) + tables.labels
    order = np.lexsort((tables.is_crowd, key))
    key, boxes = key[order], tables.boxes_xyxy[order].astype(np.float64)
    found = []
    firsts = np.arange(len(key))
    # Boxes with one key stand side by side: compare each with the one `shift` places on, and drop
    # those with no such neighbour, which have none farther away either.
    for shift in range(1, len(key)):
        firsts = firsts[firsts + shift < len(key)]
        firsts = firsts[key[firsts + shift] == key[firsts]]
        if not len(firsts):
            break
        found.append(firsts[_iou(boxes[firsts], boxes[firsts + shift]) > DUPLICATE_IOU] + shift)
    later = order[np.unique(np.concatenate(found))] if found else np.zeros(0, np.int64)
    return later[~tables.is_crowd[later]]


def _iou(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    sides = np.minimum(first[:, 2:], second[:, 2:]) - np.maximum(first[:, :2], second[:, :2])
    overlap = sides.clip(min=0).prod(axis=1)
    areas = [(boxes[:, 2:] - boxes[:, :2]).prod(axis=1) for boxes in (first, second)]
    union = areas[0] + areas[1] - overlap
    return np.divide(overlap, union, out=np.zeros_like(union), where=union > 0)
