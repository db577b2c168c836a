"""The frames with the most errors and the videos with the lowest AP50: where to look first."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from sparsevod_core.evaluation.errors.frame_errors import ErrorCounts, FrameErrors
from sparsevod_core.evaluation.metrics.ground_truth import NO_FRAME, GroundTruth

NUM_FRAMES, NUM_VIDEOS = 16, 10
APART = 30
"""Frames of one video this close show the same; only one of them is listed."""
FRAMES_PER_VIDEO = 4


@dataclass(frozen=True, slots=True)
class WorstFrame:
    """A frame and its errors; `image` is its position in the ground truth."""

    image: int
    num_boxes: int
    errors: ErrorCounts


@dataclass(frozen=True, slots=True)
class WorstVideo:
    """A video and its errors; `frames` are those with the most errors of each of its quarters.

    Attributes:
        video: position in the ground truth's `video_names`.
        AP50: over the video's own frames, mean over the classes that have boxes there; None where
            it has no boxes at all.
        frames: positions in the ground truth, in order of time.
    """

    video: int
    AP50: float | None
    num_frames: int
    num_boxes: int
    errors: ErrorCounts
    frames: tuple[int, ...]


def worst_frames(errors: FrameErrors, count: int = NUM_FRAMES) -> list[WorstFrame]:
    """Frames by their number of errors, then of missed boxes, then in the order of image ids.

    Neighbours in a video show much the same: of frames that lie within 30 of one that is listed
    none is, unless the list would stay short without them. Frames without errors are never listed.
    """
    missed, total = errors.counts[0], errors.counts.sum(axis=0)
    ranked = np.lexsort((-missed, -total))
    ranked = ranked[: np.count_nonzero(total)]
    chosen = _apart(ranked, errors.truth, count)
    if len(chosen) < count:
        left = ranked[~np.isin(ranked, chosen)]
        chosen += left[: count - len(chosen)].tolist()
    place = {image: place for place, image in enumerate(ranked.tolist())}
    return [
        WorstFrame(image, int(errors.num_boxes[image]), errors.counts_of(image))
        for image in sorted(chosen, key=place.__getitem__)
    ]


def _apart(ranked: Int[np.ndarray, " R"], truth: GroundTruth, count: int) -> list[int]:
    """The first that are not close in time to an earlier one."""
    chosen: list[int] = []
    times: dict[int, list[int]] = {}
    for image in ranked.tolist():
        known = times.setdefault(int(truth.video_of_image[image]), [])
        time = int(truth.frame_ids[image])
        if all(abs(time - other) > APART for other in known) or time == NO_FRAME:
            known.append(time)
            chosen.append(image)
            if len(chosen) == count:
                break
    return chosen


def worst_videos(
    errors: FrameErrors, ap50: Float[np.ndarray, " V"], count: int = NUM_VIDEOS
) -> list[WorstVideo]:
    """Videos by AP50 over their own frames, the lowest first, then by errors per frame.

    It is the mean over the classes that have boxes in the video. Videos without boxes have no AP50:
    those with the most false alarms, up to `count`, follow at the end. Videos where everything was
    found and nothing else are not listed.

    Args:
        errors: of every frame.
        ap50: of every video, see `video_ap50`.
        count: how many to list.
    """
    truth = errors.truth
    num_videos = len(truth.video_names)
    num_frames = np.bincount(truth.video_of_image, minlength=num_videos)
    counts = np.stack(
        [np.bincount(truth.video_of_image, row, minlength=num_videos) for row in errors.counts]
    ).astype(np.int64)
    total = counts.sum(axis=0)
    per_frame = total / np.maximum(num_frames, 1)
    by_ap = np.lexsort((-per_frame, ap50))  # NaN comes last
    has_errors = (total > 0) | (ap50 < 1 - 1e-9)
    by_ap = by_ap[has_errors[by_ap] & ~np.isnan(ap50[by_ap])]
    by_alarms = np.argsort(-counts[2], kind="stable")
    by_alarms = by_alarms[has_errors[by_alarms] & np.isnan(ap50[by_alarms])]
    num_boxes = np.bincount(truth.video_of_image, errors.num_boxes, minlength=num_videos)
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


def frame_dict(errors: FrameErrors, frame: WorstFrame) -> dict[str, Any]:
    """For JSON: where the frame is, its counts, and `errors`, each with classes, score, boxes."""
    return {
        **_where(errors.truth, frame.image),
        "num_boxes": frame.num_boxes,
        **dataclasses.asdict(frame.errors),
        "errors": [
            dataclasses.asdict(one) for one in errors.outcomes(frame.image) if one.kind != "correct"
        ],
    }


def video_dict(errors: FrameErrors, video: WorstVideo) -> dict[str, Any]:
    """For JSON: name, AP50, counts, and its worst frames."""
    return {
        "video": errors.truth.video_names[video.video],
        "AP50": video.AP50,
        "num_frames": video.num_frames,
        "num_boxes": video.num_boxes,
        **dataclasses.asdict(video.errors),
        "frames": [_where(errors.truth, image) for image in video.frames],
    }


def _where(truth: GroundTruth, image: int) -> dict[str, Any]:
    frame_id = int(truth.frame_ids[image])
    return {
        "image_id": truth.image_ids[image],
        "video": truth.video_names[truth.video_of_image[image]],
        "frame_id": None if frame_id == NO_FRAME else frame_id,
        "file_name": truth.file_names[image],
    }
