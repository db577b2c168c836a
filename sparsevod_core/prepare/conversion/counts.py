"""What one video, or one folder of still images, adds to the counts of a split."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from sparsevod_core.prepare.reading.annotated import AnnotatedVideo


@dataclass(frozen=True, slots=True)
class Example:
    """Frames that were taken for a video, or for still images, so that one can see how.

    Attributes:
        name: Name of the video.
        num_frames: Number of its frames.
        first_number, last_number: Numbers of its first and last frame.
        first_file, last_file: Their files, relative to the root; both the video file, if it is one.
    """

    name: str
    num_frames: int
    first_number: int
    last_number: int
    first_file: str
    last_file: str


@dataclass(slots=True)
class Counts:
    """Counts of one video, or one folder of still images; see `PreparedSplit`."""

    example: Example | None = None
    num_videos: int = 0
    num_frames: int = 0
    num_stills: int = 0
    num_targets: int = 0
    num_empty: int = 0
    num_tracks: int = 0
    num_known_motion: int = 0
    num_crowd: int = 0
    farthest_px: float = 0.0
    left_out: dict[str, int] = field(default_factory=dict)
    boxes_per_class: dict[str, int] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)


def count(video: AnnotatedVideo, class_names: Mapping[int, str]) -> Counts:
    """Count the frames and boxes of a video; `class_names` maps class ids to names."""
    frames = video.frames
    boxes = [box for frame in frames for box in frame.boxes]
    per_class = Counter(box.class_id for box in boxes)
    return Counts(
        example=_example(video) if frames else None,
        num_videos=int(video.is_video and bool(frames)),
        num_frames=len(frames) if video.is_video else 0,
        num_stills=0 if video.is_video else len(frames),
        num_targets=sum(frame.is_target is not False for frame in frames),
        num_empty=sum(not frame.boxes for frame in frames),
        num_tracks=len({box.track for box in boxes} - {None}),
        num_known_motion=sum(box.motion_iou is not None for box in boxes),
        num_crowd=sum(box.is_crowd for box in boxes),
        farthest_px=max((max(box.box_xyxy) for box in boxes), default=0.0),
        left_out=dict(video.left_out),
        boxes_per_class={class_names[class_id]: n for class_id, n in per_class.items()},
        problems=video.problems,
    )


def _example(video: AnnotatedVideo) -> Example:
    first, last = video.frames[0], video.frames[-1]
    return Example(
        name=video.name,
        num_frames=len(video.frames),
        first_number=first.number,
        last_number=last.number,
        first_file=video.file_name or first.file_name,
        last_file=video.file_name or last.file_name,
    )
