"""What the checks need of every box beside the file's own columns."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from sparsevod_core.data.records import VideoSet

NO_TRACK = -1


@dataclass(frozen=True, slots=True)
class BoxColumns:
    """Of M boxes, in the order of `Tables`.

    Attributes:
        frames, videos: where each lies.
        widths, heights: pixels.
        tracks: counted from 0 through the set: the same instance id in another video is another
            track. -1 where a box has none.
        num_tracks: how many there are.
    """

    frames: Int[np.ndarray, " M"]
    videos: Int[np.ndarray, " M"]
    widths: Float[np.ndarray, " M"]
    heights: Float[np.ndarray, " M"]
    tracks: Int[np.ndarray, " M"]
    num_tracks: int

    @classmethod
    def of(cls, videos: VideoSet) -> BoxColumns:
        """The columns of a set."""
        tables = videos.tables
        frames = np.repeat(np.arange(videos.num_frames), np.diff(tables.box_starts))
        videos_of_boxes = video_of_frames(videos)[frames]
        tracks = _number(videos_of_boxes, tables.instance_ids)
        return cls(
            frames=frames,
            videos=videos_of_boxes,
            widths=tables.boxes_xyxy[:, 2] - tables.boxes_xyxy[:, 0],
            heights=tables.boxes_xyxy[:, 3] - tables.boxes_xyxy[:, 1],
            tracks=tracks,
            num_tracks=int(tracks.max(initial=NO_TRACK)) + 1,
        )


def video_of_frames(videos: VideoSet) -> Int[np.ndarray, " F"]:
    """The video of each frame."""
    return np.repeat(np.arange(videos.num_videos), np.diff(videos.tables.video_starts))


def distinct(*columns: Int[np.ndarray, " n"]) -> Int[np.ndarray, " m"]:
    """The first row of each combination of values, ordered by the first column, then the second."""
    order = np.lexsort(columns[::-1])
    is_new = np.zeros(len(order), bool)
    is_new[:1] = True
    for column in columns:
        is_new[1:] |= column[order[1:]] != column[order[:-1]]
    return order[is_new]


def _number(videos: np.ndarray, instance_ids: np.ndarray) -> Int[np.ndarray, " M"]:
    order = np.lexsort((instance_ids, videos))
    same = (np.diff(videos[order]) == 0) & (np.diff(instance_ids[order]) == 0)
    has_track = instance_ids[order] != NO_TRACK
    starts = has_track.copy()
    starts[1:] &= ~same
    tracks = np.empty_like(order)
    tracks[order] = np.where(has_track, np.cumsum(starts) - 1, NO_TRACK)
    return tracks
