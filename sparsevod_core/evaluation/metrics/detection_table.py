"""The detections of a data set in flat columns, and the collector that gathers them by frame."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from sparsevod_core.data.json_fields import Id
from sparsevod_core.errors import DataError
from sparsevod_core.evaluation.metrics.ground_truth import GroundTruth


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

    Detections are copied into a few large blocks. Small arrays that stay, one after each frame,
    would end up between the model's large tensors, whose freed memory could then not be reused for
    others: the process would grow by 0.1 MB per frame (benchmarks/README.md).
    """

    def __init__(self, truth: GroundTruth) -> None:
        self._truth = truth
        self._image_at = {id_: position for position, id_ in enumerate(truth.image_ids)}
        self._category_at = {id_: position for position, id_ in enumerate(truth.category_ids)}
        self._is_added = np.zeros(len(truth.image_ids), dtype=bool)
        self._blocks: list[_Block] = []

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
        if self._is_added[image]:
            raise ValueError(f"image {image_id!r}: its detections were already added")
        if unknown := set(category_ids) - self._category_at.keys():
            raise ValueError(f"image {image_id!r}: categories {unknown} are not in the annotations")
        if not (np.isfinite(boxes_xywh).all() and np.isfinite(scores).all()):
            raise DataError(
                f"image {image_id!r}: some boxes or scores of the detections are not finite",
                hint="the weights may have diverged: check the loss in the run's metrics.jsonl",
            )
        count = len(scores)
        if not self._blocks or not self._blocks[-1].has_room(count):
            kind = compact_positions(len(self._category_at))
            self._blocks.append(_Block(max(count, BLOCK_ROWS), kind))
        categories = [self._category_at[id_] for id_ in category_ids]
        self._blocks[-1].append(image, categories, boxes_xywh, scores)
        self._is_added[image] = True

    def merge(self, other: DetectionCollector) -> None:
        """Add the detections that another process collected on other frames.

        Raises:
            ValueError: The ground truth differs, or both have detections of a frame.
        """
        if other._truth.image_ids != self._truth.image_ids:
            raise ValueError("the collectors are for different images")
        if both := np.count_nonzero(self._is_added & other._is_added):
            raise ValueError(f"{both} images were added to both collectors")
        self._is_added |= other._is_added
        self._blocks[:0] = other._blocks  # the last block is still being filled

    def table(self) -> DetectionTable:
        """Return everything collected so far."""
        parts = [block.rows() for block in self._blocks or [_Block(0, compact_positions(0))]]
        columns = map(np.concatenate, zip(*parts, strict=True))
        return DetectionTable.grouped(len(self._image_at), *columns)


BLOCK_ROWS = 1 << 16
"""Rows of a `_Block`, 3 MB."""


class _Block:
    """Detections in columns that are allocated once and filled."""

    def __init__(self, capacity: int, categories: type[np.signedinteger]) -> None:
        self._count = 0
        self._columns: tuple[np.ndarray, ...] = (
            np.empty(capacity, dtype=np.int32),
            np.empty(capacity, dtype=categories),
            np.empty((capacity, 4)),
            np.empty(capacity),
        )

    def has_room(self, count: int) -> bool:
        return self._count + count <= len(self._columns[0])

    def append(
        self,
        image: int,
        categories: Sequence[int],
        boxes_xywh: Float[np.ndarray, "M 4"],
        scores: Float[np.ndarray, " M"],
    ) -> None:
        """Copy the detections of an image into the next rows."""
        end = self._count + len(scores)
        rows: tuple[Any, ...] = (image, categories, boxes_xywh, scores)
        for column, values in zip(self._columns, rows, strict=True):
            column[self._count : end] = values
        self._count = end

    def rows(self) -> tuple[np.ndarray, ...]:
        """Return views of the columns' filled part."""
        return tuple(column[: self._count] for column in self._columns)


def compact_positions(count: int) -> type[np.signedinteger]:
    """Return the smallest integer type that holds `count` positions and -1."""
    return np.int16 if count < 2**15 else np.int32
