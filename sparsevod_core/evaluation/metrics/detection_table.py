"""The detections of a data set in flat columns, and the collector that gathers them by frame."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float, Int

from sparsevod_core.errors import DataError
from sparsevod_core.evaluation.metrics.ground_truth import GroundTruth
from sparsevod_core.evaluation.metrics.json_entries import Id


@dataclass(frozen=True, slots=True, eq=False)
class DetectionTable:
    """D detections in F frames, sorted by frame.

    Within a frame detections keep the order given, which decides between equal scores. Boxes and
    scores stay float64: with fewer digits, a box that overlaps by exactly 0.5 could lose its match.
    17.6 million detections take 0.8 GB.

    Attributes:
        images: Position of the frame in `GroundTruth.image_ids`, ascending.
        categories: Position of the class in `GroundTruth.category_ids`.
        boxes_xywh: Pixels, finite.
        scores: Finite; only their order matters.
        starts: Row of the first detection of each frame, then D.
    """

    images: Int[np.ndarray, " D"]
    categories: Int[np.ndarray, " D"]
    boxes_xywh: Float[np.ndarray, "D 4"]
    scores: Float[np.ndarray, " D"]
    starts: Int[np.ndarray, " F_plus_1"]

    @classmethod
    def grouped(
        cls,
        num_images: int,
        images: Int[np.ndarray, " D"],
        categories: Int[np.ndarray, " D"],
        boxes_xywh: Float[np.ndarray, "D 4"],
        scores: Float[np.ndarray, " D"],
    ) -> DetectionTable:
        """Build the table from columns in any order."""
        if (images[1:] < images[:-1]).any():
            order = np.argsort(images, kind="stable")
            images, categories = images[order], categories[order]
            boxes_xywh, scores = boxes_xywh[order], scores[order]
        starts = np.searchsorted(images, np.arange(num_images + 1, dtype=images.dtype))
        return cls(images, categories, boxes_xywh, scores, starts)

    def __len__(self) -> int:
        return len(self.scores)

    def select(self, rows: Int[np.ndarray, " d"]) -> DetectionTable:
        """Return the detections in some ascending rows."""
        columns = (self.images, self.categories, self.boxes_xywh, self.scores)
        return DetectionTable.grouped(len(self.starts) - 1, *(column[rows] for column in columns))

    def restricted_to(self, images: Int[np.ndarray, " f"]) -> DetectionTable:
        """Return the detections of some frames, given by their ascending positions."""
        new_position = np.full(len(self.starts) - 1, -1)
        new_position[images] = np.arange(len(images))
        part = self.select(np.flatnonzero(new_position[self.images] >= 0))
        starts = np.append(part.starts[images], len(part))
        return replace(part, images=new_position[part.images], starts=starts)

    def of_image(self, position: int) -> slice:
        """Return the rows of one frame."""
        return slice(int(self.starts[position]), int(self.starts[position + 1]))


class DetectionCollector:
    """Detections gathered frame by frame, in any order.

    Processes that share the frames each fill their own collector; `merge` joins them.
    """

    def __init__(self, truth: GroundTruth) -> None:
        self._truth = truth
        self._image_at = {id_: position for position, id_ in enumerate(truth.image_ids)}
        self._category_at = {id_: position for position, id_ in enumerate(truth.category_ids)}
        self._frames: dict[int, tuple[np.ndarray, np.ndarray, np.ndarray]] = {}

    def update(
        self,
        image_id: Id,
        boxes_xywh: Float[np.ndarray, "M 4"],
        scores: Float[np.ndarray, " M"],
        category_ids: Sequence[Id],
    ) -> None:
        """Add all detections of one frame, equal scores in order of preference.

        Boxes are in pixels, in COCO's xywh and in float64 where the source has it. A detour through
        xyxy would cost the last digit, and with it the match of a box that overlaps by exactly 0.5.

        Raises:
            DataError: A box or score is not finite.
            ValueError: The image or a category is unknown, or the image was added before.
        """
        if image_id not in self._image_at:
            raise ValueError(f"image {image_id!r} is not in {self._truth.path}")
        image = self._image_at[image_id]
        if image in self._frames:
            raise ValueError(f"image {image_id!r}: its detections were already added")
        if unknown := set(category_ids) - self._category_at.keys():
            raise ValueError(f"image {image_id!r}: categories {unknown} are not in the annotations")
        if not (np.isfinite(boxes_xywh).all() and np.isfinite(scores).all()):
            raise DataError(
                f"image {image_id!r}: some boxes or scores of the detections are not finite",
                hint="the weights may have diverged: check the loss in the run's metrics.jsonl",
            )
        categories = [self._category_at[id_] for id_ in category_ids]
        self._frames[image] = (
            np.array(categories, dtype=compact_positions(len(self._category_at))),
            np.asarray(boxes_xywh, dtype=np.float64),
            np.asarray(scores, dtype=np.float64),
        )

    def merge(self, other: DetectionCollector) -> None:
        """Add the detections that another process collected on other frames.

        Raises:
            ValueError: The ground truth differs, or both have detections of a frame.
        """
        if other._truth.image_ids != self._truth.image_ids:
            raise ValueError("the collectors are for different images")
        if both := self._frames.keys() & other._frames.keys():
            raise ValueError(f"{len(both)} images were added to both collectors")
        self._frames.update(other._frames)

    def table(self) -> DetectionTable:
        """Return everything collected so far."""
        order = sorted(self._frames)
        empty = (
            np.zeros(0, compact_positions(len(self._category_at))),
            np.zeros((0, 4)),
            np.zeros(0),
        )
        categories, boxes_xywh, scores = map(
            np.concatenate, zip(empty, *(self._frames[image] for image in order), strict=True)
        )
        counts = [len(self._frames[image][0]) for image in order]
        images = np.repeat(np.array(order, dtype=np.int32), counts)
        return DetectionTable.grouped(len(self._image_at), images, categories, boxes_xywh, scores)


def compact_positions(count: int) -> type[np.signedinteger]:
    """Return the smallest integer type that holds `count` positions and -1."""
    return np.int16 if count < 2**15 else np.int32
