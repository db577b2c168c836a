"""Videos and frames: how many, how long, which numbers are missing between two frames."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from sparsevod_core.data.records import VideoSet
from sparsevod_core.prepare.checks.columns import video_of_frames
from sparsevod_core.prepare.checks.distributions import Histogram, histogram_of_counts, spread
from sparsevod_core.prepare.checks.findings import NAMED, Finding, first, name_frames

COMMON_SIZES = 10


@dataclass(frozen=True, slots=True)
class FrameCounts:
    """How a set is made up.

    Attributes:
        videos: with one frame or more.
        stills: images that belong to no video.
        frames: of videos, and stills.
        targets: frames to train on.
        supports: frames that only support.
        empty: frames without a box.
        missing: frame numbers that are missing between two frames of a video.
        per_video: smallest, median and largest number of frames; None without videos.
        sizes: (width, height, frames), the most frequent ones first.
        num_sizes: how many different sizes there are.
        frames_per_video, boxes_per_frame: histograms.
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


@dataclass(frozen=True, slots=True)
class _Gaps:
    """Frames after which numbers are missing, and how many each time."""

    before: np.ndarray
    missing: np.ndarray


def check_frames(
    videos: VideoSet, video_names_without_frames: list[str]
) -> tuple[FrameCounts, list[Finding]]:
    """Count videos and frames, and find what is odd about them."""
    tables = videos.tables
    num_videos = len(tables.video_names)
    lengths = np.diff(tables.video_starts)[:num_videos]
    boxes_per_frame = np.diff(tables.box_starts)
    targets = int(tables.is_target.sum())
    gaps = _gaps(videos)
    sizes, frames_of_size = np.unique(tables.sizes, axis=0, return_counts=True)
    most = np.argsort(-frames_of_size, kind="stable")[:COMMON_SIZES]
    counts = FrameCounts(
        videos=num_videos,
        stills=videos.num_videos - num_videos,
        frames=videos.num_frames,
        targets=targets,
        supports=videos.num_frames - targets,
        empty=int((boxes_per_frame == 0).sum()),
        missing=int(gaps.missing.sum()),
        per_video=spread(lengths),
        sizes=tuple((int(sizes[i, 1]), int(sizes[i, 0]), int(frames_of_size[i])) for i in most),
        num_sizes=len(sizes),
        frames_per_video=histogram_of_counts(lengths),
        boxes_per_frame=histogram_of_counts(boxes_per_frame),
    )
    findings = [
        *_unusable(counts, tables.is_target, boxes_per_frame),
        *_missing_frames(videos, gaps),
        *_odd_videos(videos, lengths, video_names_without_frames),
    ]
    return counts, findings


def _gaps(videos: VideoSet) -> _Gaps:
    """Numbers that are left out, where a video is not numbered in steps throughout."""
    tables = videos.tables
    video_of = video_of_frames(videos)
    before = np.flatnonzero(video_of[1:] == video_of[:-1])
    distance = tables.frame_ids[before + 1] - tables.frame_ids[before]
    step = np.full(videos.num_videos, np.iinfo(np.int64).max)
    np.minimum.at(step, video_of[before], distance)
    missing = distance // step[video_of[before]] - 1
    return _Gaps(before[missing > 0], missing[missing > 0])


def _unusable(
    counts: FrameCounts, is_target: np.ndarray, boxes_per_frame: np.ndarray
) -> Iterator[Finding]:
    if not counts.targets:
        text = 'frames with "is_vid_train_frame": false, none to train on'
        yield Finding("no_targets", "error", text, counts.frames)
    elif not boxes_per_frame[is_target].any():
        text = "frames to train on, all without a box"
        yield Finding("no_target_boxes", "error", text, counts.targets)


def _missing_frames(videos: VideoSet, gaps: _Gaps) -> Iterator[Finding]:
    if not len(gaps.before):
        return
    frame_ids = videos.tables.frame_ids

    def places() -> Iterator[str]:
        for frame, missing in zip(gaps.before.tolist(), gaps.missing.tolist(), strict=True):
            name = videos.video_name(videos.video_of(frame))
            yield (
                f"{name}: {missing:,} between frame_id {frame_ids[frame]} and "
                f"{frame_ids[frame + 1]}"
            )

    in_videos = len(np.unique(np.searchsorted(videos.tables.video_starts, gaps.before, "right")))
    yield Finding(
        "missing_frames",
        "problem",
        f"frame numbers left out within a video, in {in_videos:,} of "
        f"{len(videos.tables.video_names):,} videos",
        int(gaps.missing.sum()),
        first(places()),
        "keep frames without a box in the file, they teach what is no object",
    )


def _odd_videos(
    videos: VideoSet, lengths: np.ndarray, names_without_frames: list[str]
) -> Iterator[Finding]:
    tables = videos.tables
    starts = tables.video_starts[: len(lengths)]
    if names_without_frames:
        yield Finding(
            "videos_without_frames",
            "problem",
            "videos listed without a frame",
            len(names_without_frames),
            first(names_without_frames),
        )
    single = np.flatnonzero(lengths == 1)
    if len(single):
        yield Finding(
            "single_frame_videos",
            "remark",
            "videos of one frame",
            len(single),
            first(videos.video_name(video) for video in single[:NAMED].tolist()),
            "they teach nothing about time",
        )
    in_file = np.array([file is not None for file in tables.video_files], bool)
    if in_file.any() and (tables.frame_ids[starts[in_file]] == 1).all():
        yield Finding(
            "frames_counted_from_1",
            "problem",
            "video files, all of which begin with frame_id 1",
            int(in_file.sum()),
            advice="frames of a video file count from 0: all boxes may lie a frame late",
        )
    changes = (np.diff(tables.sizes, axis=0) != 0).any(axis=1)
    changes[tables.video_starts[1:-1] - 1] = False
    changed = np.flatnonzero(changes)
    if len(changed):
        yield Finding(
            "mixed_sizes",
            "problem",
            "frames of another size than the frame before them in their video",
            len(changed),
            name_frames(videos, changed + 1),
        )
