"""What every label format is read into: frames with boxes of known classes, one video at a time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from sparsevod_core.data.motion import motion_iou

Box = tuple[float, float, float, float]


@dataclass(slots=True)
class LabelledBox:
    """A box of a known class, within its frame.

    Attributes:
        class_id: the data set's own number of the class.
        box_xyxy: left, top, right, bottom in pixels, width = right - left.
        track: the same number for the same object of a video; None where there are no tracks.
        occluded, generated: as ImageNet's XML marks them.
        is_crowd: around a group of objects; neither learned nor counted (COCO's `iscrowd`).
        motion_iou: see `motion.motion_iou`; None without a track.
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
    """A frame whose picture and annotation agree.

    Attributes:
        file_name: of the image, relative to the data set's root, with forward slashes.
        number: rises with time; in a video file the index of the frame, counted from 0.
        width, height: in pixels.
        boxes: in the annotation's order.
        is_target: training takes it as a target; other frames only support. None is not written.
        image_id: the user's own; None takes the next free number.
        extra: further fields of the image's record.
    """

    file_name: str
    number: int
    width: int
    height: int
    boxes: list[LabelledBox]
    is_target: bool | None = None
    image_id: int | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(slots=True)
class AnnotatedVideo:
    """A video, or stills that lie together.

    Attributes:
        name: unique within the converted set.
        is_video: False for stills, each of which stands alone.
        file_name: the video file that holds the frames, relative to the root; None for images.
        frames: in order of time, broken ones left out.
        problems: one line for each thing that is wrong, with file and line.
        num_other_boxes: boxes that are left out and nothing is wrong with: of stills whose class is
            none of ours (DET has 200), or marked to be ignored (MOT Challenge).
    """

    name: str
    is_video: bool = True
    file_name: str | None = None
    frames: list[AnnotatedFrame] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    num_other_boxes: int = 0


def box_within_frame(box_xyxy: Box, width: int, height: int) -> tuple[Box | None, str]:
    """The box clipped to the frame, and what is wrong with it; None where nothing is left."""
    left, top, right, bottom = box_xyxy
    if 0 <= left < right <= width and 0 <= top < bottom <= height:
        return box_xyxy, ""
    text = f"box ({left:g}, {top:g}, {right:g}, {bottom:g})"
    if right <= left or bottom <= top:
        return None, f"{text} is empty or inverted, left out: expected xmin < xmax and ymin < ymax"
    clipped = (max(left, 0.0), max(top, 0.0), min(right, width), min(bottom, height))
    if clipped[0] >= clipped[2] or clipped[1] >= clipped[3]:
        return None, f"{text} lies outside the {width}x{height} frame, left out"
    return clipped, f"{text} leaves the {width}x{height} frame, clipped"


def add_motion(frames: list[AnnotatedFrame]) -> None:
    """Set the motion IoU of every tracked box of one video."""
    tracked = [(frame, box) for frame in frames for box in frame.boxes if box.track is not None]
    if not tracked:
        return
    values = motion_iou(
        np.array([box.box_xyxy for _, box in tracked]),
        np.array([frame.number for frame, _ in tracked]),
        np.array([box.track for _, box in tracked]),
    )
    for (_, box), value in zip(tracked, values.tolist(), strict=True):
        box.motion_iou = value
