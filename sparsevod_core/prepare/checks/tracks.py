"""Tracks: lengths, gaps, and motion speeds of their boxes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
from jaxtyping import Float, Int

from sparsevod_core.data.motion import motion_iou
from sparsevod_core.data.records import VideoSet
from sparsevod_core.prepare.checks.findings import NAMED, Finding, box_label, find
from sparsevod_core.prepare.checks.statistics import (
    NO_TRACK,
    BoxColumns,
    Histogram,
    histogram,
    histogram_of_counts,
    spread,
)

_FAST_BELOW, _SLOW_ABOVE = 0.7, 0.9
_MOTION_EDGES = np.linspace(0, 1, 51)  # include the limits between the speeds
_BOXES_AT_ONCE = 200_000  # of entire videos, to bound memory


@dataclass(frozen=True, slots=True)
class TrackCounts:
    """Counts of all tracks or those of one class; the class of a track is that of its first box.

    Attributes:
        tracks: Number of tracks; an object in another video is another track.
        with_gaps: Number of tracks that are interrupted.
        untracked: Number of boxes without a track, including those of stills.
        lengths: Smallest, median and largest number of boxes; None without tracks.
        fast, medium, slow: Numbers of tracked boxes with a motion IoU below 0.7, up to 0.9, above.
        unknown: Number of tracked boxes whose motion is unknown.
    """

    tracks: int
    with_gaps: int
    untracked: int
    lengths: tuple[float, float, float] | None
    fast: int
    medium: int
    slow: int
    unknown: int


@dataclass(frozen=True, slots=True)
class Tracks:
    """Measurements of all tracks and of each class.

    Attributes:
        all: Counts of all tracks.
        per_class: Counts of each class, in the file's order.
        lengths: Histogram of the number of boxes per track.
        motion_iou: Histogram of the motion IoU of the boxes where it is known.
    """

    all: TrackCounts
    per_class: tuple[TrackCounts, ...]
    lengths: Histogram
    motion_iou: Histogram


def check_tracks(videos: VideoSet, columns: BoxColumns) -> tuple[Tracks, list[Finding]]:
    """Measure all tracks and find unusual ones."""
    tables = videos.tables
    tracked = np.flatnonzero(columns.tracks != NO_TRACK)
    # Sorted by track, then by frame: the boxes of a track in order of time.
    tracked = tracked[np.lexsort((columns.frames[tracked], columns.tracks[tracked]))]
    tracks, frames = columns.tracks[tracked], columns.frames[tracked]
    same_track = np.diff(tracks) == 0
    distance = np.diff(frames)
    lengths = np.bincount(tracks, minlength=columns.num_tracks)
    has_gap = np.zeros(columns.num_tracks, bool)
    has_gap[tracks[1:][same_track & (distance > 1)]] = True
    motion = _motion_iou(videos, columns)
    label_of_track = tables.labels[tracked[np.cumsum(lengths) - lengths]]

    def count(boxes: Int[np.ndarray, " m"], chosen: Int[np.ndarray, " t"]) -> TrackCounts:
        speeds = motion[boxes]  # NaN is neither fast nor slow
        fast, slow = int((speeds < _FAST_BELOW).sum()), int((speeds > _SLOW_ABOVE).sum())
        untracked = int((columns.tracks[boxes] == NO_TRACK).sum())
        unknown = int(np.isnan(speeds).sum()) - untracked
        return TrackCounts(
            tracks=len(chosen),
            with_gaps=int(has_gap[chosen].sum()),
            untracked=untracked,
            lengths=spread(lengths[chosen]),
            fast=fast,
            medium=len(speeds) - untracked - unknown - fast - slow,
            slow=slow,
            unknown=unknown,
        )

    result = Tracks(
        all=count(np.arange(len(motion)), np.arange(columns.num_tracks)),
        per_class=tuple(
            count(np.flatnonzero(tables.labels == label), np.flatnonzero(label_of_track == label))
            for label in range(len(videos.categories))
        ),
        lengths=histogram_of_counts(lengths),
        motion_iou=histogram(motion[~np.isnan(motion)], _MOTION_EDGES),
    )
    repeated = tracked[1:][same_track & (distance == 0)]
    return result, list(_findings(videos, columns, result.all.with_gaps, repeated))


def _motion_iou(videos: VideoSet, columns: BoxColumns) -> Float[np.ndarray, " M"]:
    """Return the motion IoU of each box, NaN where it is unknown."""
    tables = videos.tables
    box_ends = tables.box_starts[tables.video_starts[1:]]  # of each video
    motion = np.full(len(columns.tracks), np.nan)
    start = 0
    while start < len(motion):
        next_video = np.searchsorted(box_ends, start, side="right")
        beyond = np.searchsorted(box_ends, start + _BOXES_AT_ONCE, side="right")
        end = int(box_ends[max(next_video, beyond - 1)])
        boxes = start + np.flatnonzero(columns.tracks[start:end] != NO_TRACK)
        motion[boxes] = motion_iou(
            tables.boxes_xyxy[boxes],
            tables.frame_ids[columns.frames[boxes]],
            columns.tracks[boxes],
        )
        start = end
    return motion


def _findings(
    videos: VideoSet, columns: BoxColumns, num_with_gaps: int, repeated: np.ndarray
) -> Iterator[Finding]:
    tables = videos.tables
    name = partial(box_label, videos)
    is_tracked = columns.tracks != NO_TRACK
    untracked = np.flatnonzero(~is_tracked & (columns.videos < len(tables.video_names)))
    text = "boxes of videos without a track (instance_id)"
    advice = "only AP by motion speed needs tracks"
    yield from find("untracked", "remark", text, untracked, name, advice)
    if num_with_gaps:
        text = "tracks interrupted by frames without the object"
        yield Finding("track_gaps", "remark", text, num_with_gaps)
    text = "boxes with the same track as another box of their frame"
    yield from find("track_twice", "problem", text, repeated, name)
    tracked = np.flatnonzero(is_tracked)
    keys = columns.tracks[tracked] * len(videos.categories) + tables.labels[tracked]
    pairs = tracked[np.unique(keys, return_index=True)[1]]  # first box of each track and class
    changed = pairs[np.flatnonzero(np.diff(columns.tracks[pairs]) == 0) + 1]
    if len(changed):
        places = dict.fromkeys(_classes_of_track(videos, columns, box) for box in changed[:NAMED])
        text = "tracks that change their class"
        yield Finding("track_class", "problem", text, len(changed), tuple(places))


def _classes_of_track(videos: VideoSet, columns: BoxColumns, box: int) -> str:
    tables = videos.tables
    labels = np.unique(tables.labels[columns.tracks == columns.tracks[box]])
    names = ", ".join(videos.categories[label].name for label in labels)
    video = videos.video_name(int(columns.videos[box]))
    return f"{video}: instance_id {tables.instance_ids[box]} is {names}"
