"""Identities of objects over the frames of a video, by the SORT of Roboflow's `trackers`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Bool
from torchvision.ops import batched_nms

from sparsevod_core.config import TrackConfig
from sparsevod_core.errors import ConfigError
from sparsevod_core.structures import Detections, FrameDetections

if TYPE_CHECKING:
    from trackers import SORTTracker

_LIBRARY_FPS = 30.0  # at which the library does not scale its buffer of lost tracks


def track(
    frames: Iterable[FrameDetections], settings: TrackConfig | None = None
) -> Iterator[FrameDetections]:
    """Yield the frames of a video, in order, with the ids of their objects.

        for frame in track(predictor.video("car.mp4")):
            for detection in frame.above(0.3):
                print(frame.index, detection.track_id, detection.class_name)

    Args:
        frames: All frames of one video, also those without detections.
        settings: Settings of the tracker; None: the defaults.

    Raises:
        ConfigError: The package `trackers` cannot be imported.
    """
    return map(Tracker(settings or TrackConfig()).update, frames)


def require_library() -> type[SORTTracker]:
    """Return the tracker of the package `trackers`.

    Raises:
        ConfigError: It cannot be imported.
    """
    try:
        from trackers import SORTTracker
    except ImportError as error:
        raise ConfigError(
            f"tracking needs the package trackers, which cannot be imported: {error}",
            hint="pip install 'sparsevod[track]'",
        ) from error
    return SORTTracker


class Tracker:
    """Gives the objects of one video their ids: 1, 2, ... in the order in which they get them.

    Each class is tracked on its own, so the class of an object never changes. An object has its id
    from its `min_frames`-th consecutive frame on. The ids depend on nothing but the detections.

    Args:
        settings: Settings of the tracker.

    Raises:
        ConfigError: The package `trackers` cannot be imported.
    """

    def __init__(self, settings: TrackConfig) -> None:
        self._settings = settings
        self._new_tracker = partial(
            require_library(),
            lost_track_buffer=settings.max_lost,
            frame_rate=_LIBRARY_FPS,
            track_activation_threshold=0.0,  # detections of low score do not get there
            minimum_consecutive_frames=settings.min_frames,
            minimum_iou_threshold=settings.min_iou,
        )
        self._trackers: dict[int, SORTTracker] = {}  # by class
        self._ids: dict[tuple[int, int], int] = {}  # by class and the id of its tracker
        self._num_ids = 0

    def update(self, found: FrameDetections) -> FrameDetections:
        """Return the next frame with `track_ids`."""
        import supervision

        detections = found.detections
        takes_part = self._takes_part(detections)
        own_ids = np.full(len(detections), -1, np.int64)
        for label in sorted(self._trackers.keys() | set(detections.labels[takes_part].tolist())):
            rows = np.flatnonzero(takes_part & (detections.labels == label))
            if label not in self._trackers:
                self._trackers[label] = self._new_tracker()
            # Without detections too, as this is how a tracker loses an object.
            tracked = self._trackers[label].update(
                supervision.Detections(
                    xyxy=detections.boxes_xyxy[rows], confidence=detections.scores[rows]
                )
            )
            assert tracked.tracker_id is not None, "a tracker without ids"
            own_ids[rows] = tracked.tracker_id
        track_ids = np.full(len(detections), -1, np.int64)
        for row in np.flatnonzero(own_ids >= 0).tolist():
            track_ids[row] = self._id_of(int(detections.labels[row]), int(own_ids[row]))
        self._forget_lost()
        return FrameDetections(found.frame, replace(detections, track_ids=track_ids))

    def _takes_part(self, detections: Detections) -> Bool[np.ndarray, " M"]:
        """Return which detections of a frame can be tracked."""
        rows = np.flatnonzero(detections.scores > self._settings.min_score)
        columns = detections.boxes_xyxy, detections.scores, detections.labels
        boxes, scores, labels = (torch.from_numpy(column[rows]) for column in columns)
        kept = batched_nms(boxes, scores, labels, self._settings.max_overlap).numpy()
        takes_part = np.zeros(len(detections), bool)
        takes_part[rows[kept]] = True
        return takes_part

    def _id_of(self, label: int, own_id: int) -> int:
        if (label, own_id) not in self._ids:
            self._num_ids += 1
            self._ids[label, own_id] = self._num_ids
        return self._ids[label, own_id]

    def _forget_lost(self) -> None:
        """Drop the ids of objects that will not come back, so that memory does not grow."""
        alive = {
            (label, tracklet.tracker_id)
            for label, tracker in self._trackers.items()
            for tracklet in tracker.tracks
        }
        self._ids = {key: number for key, number in self._ids.items() if key in alive}
