"""A video's records as JSON text, all but the ids: those depend on the videos before it.

Worker processes render; the process that writes only has to put ids in front, which takes it a
microsecond a record.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from json.encoder import encode_basestring_ascii
from typing import Any

from sparsevod_core.prepare.annotated import AnnotatedFrame, AnnotatedVideo, LabelledBox


@dataclass(slots=True)
class Counts:
    """What one video, or one folder of stills, adds to a split; see `PreparedSplit`."""

    num_videos: int = 0
    num_frames: int = 0
    num_stills: int = 0
    num_targets: int = 0
    num_empty: int = 0
    num_other_boxes: int = 0
    boxes_per_class: dict[str, int] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)


@dataclass(slots=True)
class RenderedVideo:
    """Records without their ids, each the text from its next field to the closing brace.

    Attributes:
        name: of the video.
        counts: what it adds.
        video: of its record in `videos`; None for stills, and for a video without frames.
        images: one for each frame.
        image_ids: the user's own, None where the next free number is to be taken; parallel.
        annotations: one for each box.
        box_images: the position in `images` that each box belongs to; parallel.
        box_instances: the number of its object, from 0; None without a track; parallel.
        num_instances: objects.
    """

    name: str
    counts: Counts = field(default_factory=Counts)
    video: str | None = None
    images: list[str] = field(default_factory=list)
    image_ids: list[int | None] = field(default_factory=list)
    annotations: list[str] = field(default_factory=list)
    box_images: list[int] = field(default_factory=list)
    box_instances: list[int | None] = field(default_factory=list)
    num_instances: int = 0


def render(video: AnnotatedVideo, class_names: Mapping[int, str]) -> RenderedVideo:
    """Count and render a video; `class_names` is by the data set's own class number."""
    rendered = RenderedVideo(video.name, _count(video, class_names))
    if video.is_video and video.frames:
        rendered.video = _video(video)
    instances: dict[int, int] = {}
    for position, frame in enumerate(video.frames):
        rendered.images.append(_image(frame, video.is_video))
        rendered.image_ids.append(frame.image_id)
        for box in frame.boxes:
            # Track ids count within a video, instance ids over the data set.
            instance = None
            if box.track is not None:
                instance = instances.setdefault(box.track, len(instances))
            rendered.annotations.append(_annotation(box))
            rendered.box_images.append(position)
            rendered.box_instances.append(instance)
    rendered.num_instances = len(instances)
    return rendered


def _count(video: AnnotatedVideo, class_names: Mapping[int, str]) -> Counts:
    frames = video.frames
    counts = Counts(problems=video.problems, num_other_boxes=video.num_other_boxes)
    if video.is_video:
        counts.num_videos, counts.num_frames = int(bool(frames)), len(frames)
    else:
        counts.num_stills = len(frames)
    for frame in frames:
        counts.num_targets += frame.is_target is not False
        counts.num_empty += not frame.boxes
        for box in frame.boxes:
            name = class_names[box.class_id]
            counts.boxes_per_class[name] = counts.boxes_per_class.get(name, 0) + 1
    return counts


def _video(video: AnnotatedVideo) -> str:
    record: dict[str, Any] = {"name": video.name}
    if video.file_name is not None:
        record["file_name"] = video.file_name
    first = video.frames[0]
    record |= {"width": first.width, "height": first.height, "num_frames": len(video.frames)}
    return json.dumps(record)[1:]


def _image(frame: AnnotatedFrame, is_video: bool) -> str:
    number = f'"frame_id": {frame.number}, ' if is_video else ""
    target = ""
    if frame.is_target is not None:
        target = f', "is_vid_train_frame": {_BOOL[frame.is_target]}'
    extra = ""
    if frame.extra:
        extra = ", " + json.dumps(dict(frame.extra), allow_nan=False)[1:-1]
    return (
        f'{number}"file_name": {encode_basestring_ascii(frame.file_name)}, '
        f'"width": {frame.width}, "height": {frame.height}{target}{extra}}}'
    )


def _annotation(box: LabelledBox) -> str:
    whole = tuple(map(int, box.box_xyxy))
    left, top, right, bottom = whole if whole == box.box_xyxy else box.box_xyxy
    width, height = right - left, bottom - top
    # Motion in full: rounded values could fall on the other side of a speed's limit.
    motion = "" if box.motion_iou is None else f', "motion_iou": {box.motion_iou!r}'
    return (
        f'"category_id": {box.class_id}, "bbox": [{left}, {top}, {width}, {height}], '
        f'"area": {width * height}, "iscrowd": {int(box.is_crowd)}, '
        f'"occluded": {_BOOL[box.occluded]}, "generated": {_BOOL[box.generated]}{motion}}}'
    )


_BOOL = {False: "false", True: "true"}
