"""Error report: confusion of the classes, the worst frames and the worst videos."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from sparsevod_core.evaluation.errors.confusion import Confusion
from sparsevod_core.evaluation.errors.frame_errors import ErrorCounts, FrameErrors
from sparsevod_core.evaluation.metrics.detection_table import DetectionTable
from sparsevod_core.evaluation.metrics.ground_truth import NO_FRAME, GroundTruth
from sparsevod_core.evaluation.metrics.subsets import ap50_by_video

NUM_FRAMES, NUM_VIDEOS = 16, 10
MIN_DISTANCE = 30
"""Frames of a video that are closer look much the same, so only one of them is listed."""
FRAMES_PER_VIDEO = 4


class WorstVideo(NamedTuple):
    """A video and its errors.

    Attributes:
        video: Position in the ground truth's `video_names`.
        AP50: See `ap50_by_video`; None without boxes.
        frames: Positions of the frame with the most errors in each quarter, in order of time.
    """

    video: int
    AP50: float | None
    num_frames: int
    num_boxes: int
    errors: ErrorCounts
    frames: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class ErrorReport:
    """Errors of an evaluation at scores above 0.3: by frame, by class, and the worst ones.

    `frames` are positions in the ground truth.
    """

    errors: FrameErrors
    confusion: Confusion
    frames: list[int]
    videos: list[WorstVideo]

    @classmethod
    def of(cls, truth: GroundTruth, table: DetectionTable) -> ErrorReport:
        """Find the errors among all detections."""
        errors = FrameErrors(truth, table)
        videos = worst_videos(errors, ap50_by_video(truth, table))
        return cls(errors, Confusion.of(errors), worst_frames(errors), videos)

    def to_dict(self) -> dict[str, Any]:
        """Return what goes into the JSON: `confusion`, `worst_frames` and `worst_videos`."""
        return {
            "confusion": self.confusion.to_dict(),
            "worst_frames": [frame_dict(self.errors, image) for image in self.frames],
            "worst_videos": [video_dict(self.errors, video) for video in self.videos],
        }


def worst_frames(errors: FrameErrors, count: int = NUM_FRAMES) -> list[int]:
    """Return the frames with the most errors; on a tie with the most missed boxes, then by id.

    Frames without errors are never listed. Frames within 30 of a listed frame of the same video are
    listed only if there are not enough others.
    """
    missed, total = errors.counts[0], errors.counts.sum(axis=0)
    ranked = np.lexsort((-missed, -total))
    ranked = ranked[: np.count_nonzero(total)]
    chosen = _distant(ranked, errors.truth, count)
    rest = ranked[~np.isin(ranked, chosen)]
    chosen += rest[: count - len(chosen)].tolist()
    place = {image: place for place, image in enumerate(ranked.tolist())}
    return sorted(chosen, key=place.__getitem__)


def _distant(ranked: Int[np.ndarray, " R"], truth: GroundTruth, count: int) -> list[int]:
    """Return the first frames that are not close in time to an earlier one."""
    chosen: list[int] = []
    times: dict[int, list[int]] = {}
    for image in ranked.tolist():
        known = times.setdefault(int(truth.video_of_image[image]), [])
        time = int(truth.frame_ids[image])
        if all(abs(time - other) > MIN_DISTANCE for other in known) or time == NO_FRAME:
            known.append(time)
            chosen.append(image)
            if len(chosen) == count:
                break
    return chosen


def worst_videos(
    errors: FrameErrors, ap50: Float[np.ndarray, " V"], count: int = NUM_VIDEOS
) -> list[WorstVideo]:
    """Return up to `count` videos with the lowest AP50; on a tie with the most errors per frame.

    Up to `count` videos without boxes, which have no AP50, follow: those with the most false
    alarms. Videos without errors are never listed.

    Args:
        ap50: AP50 of every video, from `ap50_by_video`.
        count: Maximum length of each of the two lists.
    """
    video_of_image = errors.truth.video_of_image
    num_videos = len(errors.truth.video_names)
    num_frames = np.bincount(video_of_image, minlength=num_videos)
    num_boxes = np.bincount(video_of_image, errors.num_boxes, minlength=num_videos)
    counts = np.stack(
        [np.bincount(video_of_image, row, minlength=num_videos) for row in errors.counts]
    ).astype(np.int64)
    total = counts.sum(axis=0)
    per_frame = total / np.maximum(num_frames, 1)
    by_ap = np.lexsort((-per_frame, ap50))  # NaN comes last
    has_errors = (total > 0) | (ap50 < 1 - 1e-9)
    by_ap = by_ap[has_errors[by_ap] & ~np.isnan(ap50[by_ap])]
    by_alarms = np.argsort(-counts[2], kind="stable")
    by_alarms = by_alarms[has_errors[by_alarms] & np.isnan(ap50[by_alarms])]
    return [
        WorstVideo(
            video,
            AP50=None if np.isnan(ap50[video]) else float(ap50[video]),
            num_frames=int(num_frames[video]),
            num_boxes=int(num_boxes[video]),
            errors=ErrorCounts(*counts[:, video].tolist()),
            frames=_worst_of_each_quarter(errors, video),
        )
        for video in [*by_ap[:count].tolist(), *by_alarms[:count].tolist()]
    ]


def _worst_of_each_quarter(errors: FrameErrors, video: int) -> tuple[int, ...]:
    images = np.flatnonzero(errors.truth.video_of_image == video)
    images = images[np.argsort(errors.truth.frame_ids[images], kind="stable")]
    total = errors.counts.sum(axis=0)
    quarters = np.array_split(images, min(FRAMES_PER_VIDEO, len(images)))
    return tuple(int(quarter[np.argmax(total[quarter])]) for quarter in quarters)


def frame_dict(errors: FrameErrors, image: int) -> dict[str, Any]:
    """Return a frame for the JSON: its name, counts, and `errors` with classes, score and boxes."""
    return {
        **_location(errors.truth, image),
        "num_boxes": int(errors.num_boxes[image]),
        **dataclasses.asdict(errors.counts_of(image)),
        "errors": [
            dataclasses.asdict(one) for one in errors.outcomes(image) if one.kind != "correct"
        ],
    }


def video_dict(errors: FrameErrors, video: WorstVideo) -> dict[str, Any]:
    """Return a video for the JSON: its name, AP50, counts and worst frames."""
    return {
        "video": errors.truth.video_names[video.video],
        "AP50": video.AP50,
        "num_frames": video.num_frames,
        "num_boxes": video.num_boxes,
        **dataclasses.asdict(video.errors),
        "frames": [_location(errors.truth, image) for image in video.frames],
    }


def _location(truth: GroundTruth, image: int) -> dict[str, Any]:
    frame_id = int(truth.frame_ids[image])
    return {
        "image_id": truth.image_ids[image],
        "video": truth.video_names[truth.video_of_image[image]],
        "frame_id": None if frame_id == NO_FRAME else frame_id,
        "file_name": truth.file_names[image],
    }
