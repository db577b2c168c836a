"""Result of reading labels in any format: one video's frames with boxes of known classes."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from sparsevod_core.data.motion import motion_iou

Box = tuple[float, float, float, float]

KEPT_AS_CROWD = "kept as crowd boxes"
"""End of the reasons in `AnnotatedVideo.left_out` for boxes that are written as crowd boxes."""


@dataclass(slots=True)
class LabeledBox:
    """A box of a known class, within its frame.

    Attributes:
        class_id: Class id in the data set.
        box_xyxy: Left, top, right, bottom in pixels; width = right - left.
        track: Track id, the same for all boxes of an object in a video; None without tracks.
        occluded, generated: Flags of ImageNet's XML.
        is_crowd: Whether the box covers a group of objects; such boxes are neither trained on nor
            evaluated (COCO's `iscrowd`).
        motion_iou: See `data.motion.motion_iou`; None if it is not known.
    """

    class_id: int
    box_xyxy: Box
    track: int | None = None
    occluded: bool = False
    generated: bool = False
    is_crowd: bool = False
    motion_iou: float | None = None


@dataclass(slots=True)
class AnnotatedFrame:
    """A frame whose image and annotation agree.

    Attributes:
        file_name: Path of the image relative to the root of the data set, with forward slashes.
        number: Frame number, increasing with time; in a video file the frame index from 0.
        width, height: Size in pixels.
        boxes: Boxes in the order of the annotation.
        is_target: Whether training uses the frame as a target, or only as a support frame. None is
            not written.
        image_id: The user's own id; None to use the next free id.
        extra: Further fields of the image record.
    """

    file_name: str
    number: int
    width: int
    height: int
    boxes: list[LabeledBox]
    is_target: bool | None = None
    image_id: int | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(slots=True)
class AnnotatedVideo:
    """A video, or the still images of one folder.

    Attributes:
        name: Name, unique within the converted set.
        is_video: False for still images, which do not belong together.
        file_name: Path of the video file relative to the root; None for image files.
        frames: Valid frames in temporal order.
        problems: One line per problem, with file and line.
        left_out: Number of boxes or frames that are valid, but deliberately not used, by reason,
            e.g. `boxes marked difficult`.
    """

    name: str
    is_video: bool = True
    file_name: str | None = None
    frames: list[AnnotatedFrame] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)


def box_within_frame(box_xyxy: Box, width: int, height: int) -> tuple[Box | None, str]:
    """Return the box clipped to the frame (None if nothing is left), and what is wrong with it."""
    left, top, right, bottom = box_xyxy
    if 0 <= left < right <= width and 0 <= top < bottom <= height:
        return box_xyxy, ""
    text = f"box ({left:g}, {top:g}, {right:g}, {bottom:g})"
    if right <= left or bottom <= top:
        return None, f"{text} is empty or inverted, skipped: expected xmin < xmax and ymin < ymax"
    clipped = (max(left, 0.0), max(top, 0.0), min(right, width), min(bottom, height))
    if clipped[0] >= clipped[2] or clipped[1] >= clipped[3]:
        return None, f"{text} lies outside the {width}x{height} frame, skipped"
    return clipped, f"{text} leaves the {width}x{height} frame, clipped"


def rotated_extent(box_xyxy: Box, degrees: float) -> Box:
    """Return the axis-aligned bounding box of a box that is rotated about its center."""
    left, top, right, bottom = box_xyxy
    angle = math.radians(degrees)
    cosine, sine = abs(math.cos(angle)), abs(math.sin(angle))
    half_width = ((right - left) * cosine + (bottom - top) * sine) / 2
    half_height = ((right - left) * sine + (bottom - top) * cosine) / 2
    x, y = (left + right) / 2, (top + bottom) / 2
    sides = (x - half_width, y - half_height, x + half_width, y + half_height)
    left, top, right, bottom = (round(side, 3) for side in sides)
    return left, top, right, bottom


def add_motion(frames: list[AnnotatedFrame]) -> None:
    """Set the motion IoU of every box of one video where it is known."""
    tracked = [(frame, box) for frame in frames for box in frame.boxes if box.track is not None]
    if not tracked:
        return
    values = motion_iou(
        np.array([box.box_xyxy for _, box in tracked]),
        np.array([frame.number for frame, _ in tracked]),
        np.array([box.track for _, box in tracked]),
    )
    for (_, box), value in zip(tracked, values.tolist(), strict=True):
        box.motion_iou = None if math.isnan(value) else value
