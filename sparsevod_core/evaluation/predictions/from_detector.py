"""Predictions from a detector, on the annotated frames and in the classes of the annotations."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from typing import Any

import numpy as np
from jaxtyping import Float

from sparsevod_core.data.frames import FrameReader
from sparsevod_core.data.json_fields import Id
from sparsevod_core.data.records import VideoSet
from sparsevod_core.errors import DataError
from sparsevod_core.evaluation.metrics.ground_truth import GroundTruth
from sparsevod_core.inference import Predictor
from sparsevod_core.reporting import Reporter, some_of
from sparsevod_core.structures import Category, Detections, Frame
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


class ClassMatch:
    """The model's classes and the annotations' classes, matched by name.

    Attributes:
        left_out: Names of the classes that only the model has.
        unknown: Names of the classes that only the annotations have.

    Raises:
        DataError: They have no name in common.
    """

    def __init__(self, categories: Sequence[Category], truth: GroundTruth) -> None:
        ids = dict(zip(truth.category_names, truth.category_ids, strict=True))
        model_names = [category.name for category in categories]
        self._path = truth.path
        self._id_of_label = [ids.get(name) for name in model_names]
        self._is_scored = np.array([name in ids for name in model_names], dtype=bool)
        self.left_out = [name for name in model_names if name not in ids]
        self.unknown = [name for name in ids if name not in model_names]
        if not self._is_scored.any():
            raise DataError(
                f"{truth.path}: no class in common with the model: the annotations have "
                f"{some_of(list(ids))}; the model has {some_of(model_names)}",
                hint="classes are matched by name: rename those under `categories`",
            )

    def report(self, reporter: Reporter) -> None:
        """Report the classes without a match."""
        if self.left_out:
            reporter.message(f"skipping classes that {self._path} lacks: {some_of(self.left_out)}")
        if self.unknown:
            reporter.warning(
                f"the model lacks these classes of {self._path}, they score 0: "
                f"{some_of(self.unknown)}"
            )

    def select(
        self, detections: Detections
    ) -> tuple[Float[np.ndarray, "M 4"], Float[np.ndarray, " M"], list[Id]]:
        """Return the boxes (xywh, float64), scores and category ids of the scored detections."""
        kept = detections[self._is_scored[detections.labels]][:MAX_PER_FRAME]
        low, high = np.split(kept.boxes_xyxy.astype(np.float64), 2, axis=1)
        ids: list[Any] = [self._id_of_label[label] for label in kept.labels.tolist()]
        return np.concatenate([low, high - low], axis=1), kept.scores.astype(np.float64), ids
