"""All detections of a set in flat columns, frame after frame."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int


@dataclass(frozen=True, slots=True, eq=False)
class DetectionTable:
    """Detections by frame; within a frame in the order given, which ranks equal scores.

    D detections in F frames. 17.6 million take 0.8 GB: box and score stay float64, because a box
    that overlaps by exactly 0.5 would lose its match with fewer digits.

    Attributes:
        images: position in `GroundTruth.image_ids`, never falling.
        categories: position in `GroundTruth.category_ids`.
        boxes_xywh: pixels, finite.
        scores: finite; COCO ranks by them, whatever their range.
        starts: first detection of each frame, and D.
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
        """The table of columns in any order."""
        if (images[1:] < images[:-1]).any():
            order = np.argsort(images, kind="stable")
            images, categories = images[order], categories[order]
            boxes_xywh, scores = boxes_xywh[order], scores[order]
        starts = np.searchsorted(images, np.arange(num_images + 1, dtype=images.dtype))
        return cls(images, categories, boxes_xywh, scores, starts)

    def restricted_to(self, images: Int[np.ndarray, " f"]) -> DetectionTable:
        """Only the detections of these frames, of which the positions are given, ascending."""
        new_position = np.full(len(self.starts) - 1, -1)
        new_position[images] = np.arange(len(images))
        rows = new_position[self.images] >= 0
        return DetectionTable.grouped(
            len(images),
            new_position[self.images[rows]],
            self.categories[rows],
            self.boxes_xywh[rows],
            self.scores[rows],
        )

    def __len__(self) -> int:
        return len(self.scores)

    def of_image(self, position: int) -> slice:
        """Where the detections of a frame stand."""
        return slice(int(self.starts[position]), int(self.starts[position + 1]))


def compact_positions(count: int) -> type[np.signedinteger]:
    """The smallest integer type that tells `count` positions apart; -1 stays free."""
    return np.int16 if count < 2**15 else np.int32
