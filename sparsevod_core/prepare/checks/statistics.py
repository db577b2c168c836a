"""Per-box columns and histograms that the checks share."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int, Num

from sparsevod_core.data.records import VideoSet

NO_TRACK = -1
_MAX_BINS = 32
_LOG_RANGE = 20  # ratio of largest to smallest value from which a logarithmic axis reads better


@dataclass(frozen=True, slots=True)
class BoxColumns:
    """Columns of M boxes, in the order of `Tables`.

    Attributes:
        frames, videos: Frame and video of each box.
        frame_sizes: Height and width of the box's frame in pixels.
        widths, heights: Size of the box in pixels.
        tracks: Track of each box, -1 for none. Tracks are numbered from 0 across the dataset: the
            same instance id in another video is another track.
        num_tracks: Number of tracks.
    """

    frames: Int[np.ndarray, " M"]
    videos: Int[np.ndarray, " M"]
    frame_sizes: Float[np.ndarray, "M 2"]
    widths: Float[np.ndarray, " M"]
    heights: Float[np.ndarray, " M"]
    tracks: Int[np.ndarray, " M"]
    num_tracks: int

    @classmethod
    def of(cls, videos: VideoSet) -> BoxColumns:
        """Return the columns of a dataset."""
        tables = videos.tables
        frames = np.repeat(np.arange(videos.num_frames), np.diff(tables.box_starts))
        videos_of_boxes = video_of_frames(videos)[frames]
        ids, rank = np.unique(tables.instance_ids, return_inverse=True)
        is_tracked = tables.instance_ids != NO_TRACK
        tracks = np.full(len(frames), NO_TRACK)
        keys = (videos_of_boxes * len(ids) + rank)[is_tracked]
        tracks[is_tracked] = np.unique(keys, return_inverse=True)[1]
        return cls(
            frames=frames,
            videos=videos_of_boxes,
            frame_sizes=tables.sizes[frames].astype(np.float32),
            widths=tables.boxes_xyxy[:, 2] - tables.boxes_xyxy[:, 0],
            heights=tables.boxes_xyxy[:, 3] - tables.boxes_xyxy[:, 1],
            tracks=tracks,
            num_tracks=int(tracks.max(initial=NO_TRACK)) + 1,
        )


def video_of_frames(videos: VideoSet) -> Int[np.ndarray, " F"]:
    """Return the video of each frame."""
    return np.repeat(np.arange(videos.num_videos), np.diff(videos.tables.video_starts))


@dataclass(frozen=True, slots=True)
class Histogram:
    """Counts between edges; the last bin includes its upper edge."""

    edges: Float[np.ndarray, " bins_plus_1"]
    counts: Int[np.ndarray, " bins"]


def histogram(values: Num[np.ndarray, " n"], edges: Float[np.ndarray, " e"]) -> Histogram:
    """Count values between edges; values outside go to the first and last bin."""
    counts, _ = np.histogram(values.clip(edges[0], edges[-1]), edges)
    return Histogram(edges, counts)


def histogram_of_counts(values: Int[np.ndarray, " n"]) -> Histogram:
    """Return a histogram of non-negative integers, with one bin per integer in a small range."""
    if not len(values):
        return Histogram(np.array([-0.5, 0.5]), np.zeros(1, np.int64))
    low, high = int(values.min()), int(values.max())
    if high - low < _MAX_BINS:
        edges = np.arange(low, high + 2) - 0.5
    elif low > 0 and high > _LOG_RANGE * low:
        rounded = np.round(np.geomspace(low, high + 1, _MAX_BINS + 1))
        edges = np.unique(rounded) - 0.5
    else:
        step = -(-(high + 1 - low) // _MAX_BINS)
        edges = np.arange(low, high + step + 1, step) - 0.5
    return Histogram(edges, np.histogram(values, edges)[0])


def spread(values: Num[np.ndarray, " n"]) -> tuple[float, float, float] | None:
    """Return the smallest, median and largest value; None without values."""
    if not len(values):
        return None
    return float(values.min()), float(np.median(values)), float(values.max())
