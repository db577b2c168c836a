"""Tracks: how long, with gaps or not, and how fast their objects move."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from sparsevod_core.data.motion import motion_iou
from sparsevod_core.data.records import VideoSet
from sparsevod_core.prepare.checks.columns import NO_TRACK, BoxColumns, distinct
from sparsevod_core.prepare.checks.distributions import (
    MOTION_EDGES,
    Histogram,
    histogram,
    histogram_of_counts,
    spread,
)
from sparsevod_core.prepare.checks.findings import NAMED, Finding, first, name_boxes

FAST_BELOW, SLOW_ABOVE = 0.7, 0.9
_BOXES_AT_ONCE = 200_000  # whole videos together; more would only take memory


@dataclass(frozen=True, slots=True)
class TrackCounts:
    """Of all tracks, or of those of a class; a track has the class of its first box.

    Attributes:
        tracks: how many; an object of another video is another track.
        with_gaps: tracks whose object is absent from frames in between.
        untracked: boxes without a track, those of stills too.
        lengths: smallest, median and largest number of boxes; None without tracks.
        fast, medium, slow: tracked boxes by motion IoU: below 0.7, up to 0.9, above.
    """

    tracks: int
    with_gaps: int
    untracked: int
    lengths: tuple[float, float, float] | None
    fast: int
    medium: int
    slow: int


@dataclass(frozen=True, slots=True)
class Tracks:
    """Of all boxes and of each class.

    Attributes:
        all: of all tracks.
        per_class: in the file's order of classes.
        lengths: boxes of a track.
        motion_iou: of boxes that have a track.
    """

    all: TrackCounts
    per_class: tuple[TrackCounts, ...]
    lengths: Histogram
    motion_iou: Histogram


def check_tracks(videos: VideoSet, columns: BoxColumns) -> tuple[Tracks, list[Finding]]:
    """Measure all tracks and find what is odd about them."""
    tables = videos.tables
    tracked = np.flatnonzero(columns.tracks != NO_TRACK)
    # By track, then by frame: a track's boxes in order of time.
    tracked = tracked[np.lexsort((columns.frames[tracked], columns.tracks[tracked]))]
    tracks, frames = columns.tracks[tracked], columns.frames[tracked]
    same_track = np.diff(tracks) == 0
    distance = np.diff(frames)
    lengths = np.bincount(tracks, minlength=columns.num_tracks)
    has_gap = np.zeros(columns.num_tracks, bool)
    has_gap[tracks[1:][same_track & (distance > 1)]] = True
    motion = _motion_iou(videos, columns)
    label_of_track = tables.labels[tracked[np.cumsum(lengths) - lengths]]

    def of(boxes: Int[np.ndarray, " m"], chosen: Int[np.ndarray, " t"]) -> TrackCounts:
        speeds = motion[boxes]  # NaN, which is neither, without a track
        fast, slow = int((speeds < FAST_BELOW).sum()), int((speeds > SLOW_ABOVE).sum())
        untracked = int(np.isnan(speeds).sum())
        return TrackCounts(
            tracks=len(chosen),
            with_gaps=int(has_gap[chosen].sum()),
            untracked=untracked,
            lengths=spread(lengths[chosen]),
            fast=fast,
            medium=len(speeds) - untracked - fast - slow,
            slow=slow,
        )

    result = Tracks(
        all=of(np.arange(len(motion)), np.arange(columns.num_tracks)),
        per_class=tuple(
            of(np.flatnonzero(tables.labels == label), np.flatnonzero(label_of_track == label))
            for label in range(len(videos.categories))
        ),
        lengths=histogram_of_counts(lengths),
        motion_iou=histogram(motion[tracked], MOTION_EDGES),
    )
    twice = tracked[1:][same_track & (distance == 0)]
    return result, list(_findings(videos, columns, result.all, twice))


def _motion_iou(videos: VideoSet, columns: BoxColumns) -> Float[np.ndarray, " M"]:
    """NaN for a box without a track."""
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
    videos: VideoSet, columns: BoxColumns, counts: TrackCounts, twice: np.ndarray
) -> Iterator[Finding]:
    tables = videos.tables
    in_video = columns.videos < len(tables.video_names)
    untracked = np.flatnonzero((columns.tracks == NO_TRACK) & in_video)
    if len(untracked):
        text = "boxes of videos without a track (instance_id)"
        places = name_boxes(videos, untracked)
        advice = "AP by motion speed needs tracks, nothing else does"
        yield Finding("untracked", "remark", text, len(untracked), places, advice)
    if counts.with_gaps:
        text = "tracks with gaps, their object absent from frames in between"
        yield Finding("track_gaps", "remark", text, counts.with_gaps)
    if len(twice):
        text = "boxes with the track of another box of their frame"
        yield Finding("track_twice", "problem", text, len(twice), name_boxes(videos, twice))
    tracked = np.flatnonzero(columns.tracks != NO_TRACK)
    pairs = tracked[distinct(columns.tracks[tracked], tables.labels[tracked])]
    changed = np.flatnonzero(np.diff(columns.tracks[pairs]) == 0) + 1
    if len(changed):
        boxes = pairs[changed]
        text = "tracks that change their class"
        yield Finding("track_class", "problem", text, len(boxes), _class_changes(videos, boxes))


def _class_changes(videos: VideoSet, boxes: np.ndarray) -> tuple[str, ...]:
    """Video and track of boxes with another class than their track had before."""
    tables = videos.tables

    def place(box: int) -> str:
        frame = int(np.searchsorted(tables.box_starts, box, side="right")) - 1
        video = videos.video_of(frame)
        instance = tables.instance_ids[box]
        span = slice(
            *tables.box_starts[tables.video_starts[[video, video + 1]]].tolist(),
        )
        labels = np.unique(tables.labels[span][tables.instance_ids[span] == instance])
        names = ", ".join(videos.categories[label].name for label in labels)
        return f"{videos.video_name(video)}: instance_id {instance} is {names}"

    return first(dict.fromkeys(place(box) for box in boxes[:NAMED].tolist()))
