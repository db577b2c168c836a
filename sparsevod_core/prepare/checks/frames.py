"""Videos and frames: numbers, lengths, sizes, and missing frame numbers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np

from sparsevod_core.data.records import VideoSet
from sparsevod_core.prepare.checks.findings import NAMED, Finding, find, frame_label
from sparsevod_core.prepare.checks.statistics import (
    Histogram,
    histogram_of_counts,
    spread,
    video_of_frames,
)

_COMMON_SIZES = 10


@dataclass(frozen=True, slots=True)
class FrameCounts:
    """Numbers of videos and frames.

    Attributes:
        videos: Number of videos with frames.
        stills: Number of images that belong to no video.
        frames: Number of frames of videos, and stills.
        targets: Number of frames to train on.
        supports: Number of frames used only as support frames.
        empty: Number of frames without boxes.
        missing: Number of frame numbers missing between two frames of a video.
        per_video: Smallest, median and largest number of frames; None without videos.
        sizes: (width, height, number of frames), most frequent first.
        num_sizes: Number of different sizes.
        frames_per_video, boxes_per_frame: Histograms.
    """

    videos: int
    stills: int
    frames: int
    targets: int
    supports: int
    empty: int
    missing: int
    per_video: tuple[float, float, float] | None
    sizes: tuple[tuple[int, int, int], ...]
    num_sizes: int
    frames_per_video: Histogram
    boxes_per_frame: Histogram


def check_frames(
    videos: VideoSet, names_without_frames: list[str]
) -> tuple[FrameCounts, list[Finding]]:
    """Count videos and frames and find unusual ones.

    `names_without_frames` are the names of the file's videos that have no frame.
    """
    tables = videos.tables
    num_videos = len(tables.video_names)
    lengths = np.diff(tables.video_starts)[:num_videos]
    boxes_per_frame = np.diff(tables.box_starts)
    targets = int(tables.is_target.sum())
    gaps, missing = _gaps(videos)
    sizes, frames_of_size = np.unique(tables.sizes, axis=0, return_counts=True)
    most = np.argsort(-frames_of_size, kind="stable")[:_COMMON_SIZES]
    counts = FrameCounts(
        videos=num_videos,
        stills=videos.num_videos - num_videos,
        frames=videos.num_frames,
        targets=targets,
        supports=videos.num_frames - targets,
        empty=int((boxes_per_frame == 0).sum()),
        missing=int(missing.sum()),
        per_video=spread(lengths),
        sizes=tuple((int(sizes[i, 1]), int(sizes[i, 0]), int(frames_of_size[i])) for i in most),
        num_sizes=len(sizes),
        frames_per_video=histogram_of_counts(lengths),
        boxes_per_frame=histogram_of_counts(boxes_per_frame),
    )
    return counts, list(_findings(videos, counts, gaps, missing, names_without_frames))


def _gaps(videos: VideoSet) -> tuple[np.ndarray, np.ndarray]:
    """Return the frames after which numbers are missing, and how many are missing after each.

    A video whose frames are numbered in regular steps has no gaps.
    """
    tables = videos.tables
    video_of = video_of_frames(videos)
    before = np.flatnonzero(video_of[1:] == video_of[:-1])
    distance = tables.frame_ids[before + 1] - tables.frame_ids[before]
    step = np.full(videos.num_videos, np.iinfo(np.int64).max)
    np.minimum.at(step, video_of[before], distance)
    missing = distance // step[video_of[before]] - 1
    return before[missing > 0], missing[missing > 0]


def _findings(
    videos: VideoSet,
    counts: FrameCounts,
    gaps: np.ndarray,
    missing: np.ndarray,
    names_without_frames: list[str],
) -> Iterator[Finding]:
    tables = videos.tables
    if not counts.targets:
        text = 'frames with "is_vid_train_frame": false, none to train on'
        yield Finding("no_targets", "error", text, counts.frames)
    elif not np.diff(tables.box_starts)[tables.is_target].any():
        text = "frames to train on, none of them with a box"
        yield Finding("no_target_boxes", "error", text, counts.targets)
    if len(gaps):
        places = tuple(
            f"{videos.video_name(videos.video_of(frame))}: {number:,} between frame_id "
            f"{tables.frame_ids[frame]} and {tables.frame_ids[frame + 1]}"
            for frame, number in zip(gaps[:NAMED].tolist(), missing[:NAMED].tolist(), strict=True)
        )
        num_affected = len(np.unique(np.searchsorted(tables.video_starts, gaps, "right")))
        text = f"missing frame numbers, in {num_affected:,} of {counts.videos:,} videos"
        advice = "keep frames without a box in the file: the model learns background from them"
        yield Finding("missing_frames", "problem", text, counts.missing, places, advice)
    text = "videos without frames"
    yield from find("videos_without_frames", "problem", text, names_without_frames)
    single = np.flatnonzero(np.diff(tables.video_starts)[: counts.videos] == 1)
    advice = "nothing about time can be learned from them"
    name = videos.video_name
    yield from find("single_frame_videos", "remark", "videos of one frame", single, name, advice)
    in_file = np.array([file is not None for file in tables.video_files], bool)
    first_ids = tables.frame_ids[tables.video_starts[: counts.videos]]
    if in_file.any() and (first_ids[in_file] == 1).all():
        text = "video files, all with frame_id 1 as their first frame"
        advice = "frame_id counts from 0 in a video file: all boxes may be one frame late"
        count = int(in_file.sum())
        yield Finding("frames_counted_from_1", "problem", text, count, advice=advice)
    changes = (np.diff(tables.sizes, axis=0) != 0).any(axis=1)
    changes[tables.video_starts[1:-1] - 1] = False
    text = "frames of another size than the previous frame of their video"
    changed = np.flatnonzero(changes) + 1
    yield from find("mixed_sizes", "problem", text, changed, partial(frame_label, videos))
