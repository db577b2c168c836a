"""Predictions from a detector, on the annotated frames and in the classes of the annotations."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from typing import Any

import numpy as np
from jaxtyping import Float

from sparsevod_core.data.class_match import ClassMatch
from sparsevod_core.data.frames import FrameReader
from sparsevod_core.data.json_fields import Id
from sparsevod_core.data.records import VideoSet
from sparsevod_core.inference import Predictor
from sparsevod_core.structures import Detections, Frame
from sparsevod_core.video.overlap import depth_for

MAX_PER_FRAME = 100
"""Number of detections scored per frame (COCO's limit), among the common classes."""


def detect_annotated_frames(
    predictor: Predictor, videos: VideoSet, chosen: Sequence[int], *, clip: bool = True
) -> Iterator[tuple[int, Detections]]:
    """Yield the position in `videos` and the detections of every frame of the chosen videos."""
    ahead = depth_for(predictor.batch)
    with closing(FrameReader(videos)) as reader:
        footage = [AnnotatedFrames(reader, videos.video_frames(video), ahead) for video in chosen]
        for number, found in predictor.videos(footage, clip=clip):
            yield footage[number].positions[found.frame.index], found.detections


class AnnotatedFrames:
    """The annotated frames of a video, as `Footage` without the frames between them.

    Args:
        reader: Reader of the data set.
        positions: Positions of the frames in the data set.
        ahead: See `FrameReader.in_order`.
    """

    def __init__(self, reader: FrameReader, positions: range, ahead: int) -> None:
        self.positions = positions
        self._reader = reader
        self._ahead = ahead

    def num_frames(self) -> int:
        return len(self.positions)

    def frames_at(self, indices: Sequence[int]) -> list[Frame]:
        images = self._reader.read_many([self.positions[index] for index in indices])
        return [Frame(index, None, image) for index, image in zip(indices, images, strict=True)]

    def __iter__(self) -> Iterator[Frame]:
        for index, image in enumerate(self._reader.in_order(self.positions, self._ahead)):
            yield Frame(index, None, image)


def scored_detections(
    detections: Detections, classes: ClassMatch
) -> tuple[Float[np.ndarray, "M 4"], Float[np.ndarray, " M"], list[Id]]:
    """Return the boxes (xywh, float64), scores and category ids of the detections to score."""
    is_scored = np.array([id_ is not None for id_ in classes.id_of_label], dtype=bool)
    kept = detections[is_scored[detections.labels]][:MAX_PER_FRAME]
    low, high = np.split(kept.boxes_xyxy.astype(np.float64), 2, axis=1)
    ids: list[Any] = [classes.id_of_label[label] for label in kept.labels.tolist()]
    return np.concatenate([low, high - low], axis=1), kept.scores.astype(np.float64), ids
