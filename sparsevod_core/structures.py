"""The values that travel between data, model, losses and output.

Letters in shapes: B clips, S support frames, L frames of a video, N proposals, C channels,
K classes, T stages, M ground-truth boxes, H and W pixels. Boxes are `xyxy` in pixels unless the
name says otherwise.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from sparsevod_core.category import Category as Category  # travels with them

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, slots=True)
class Clip:
    """A batch of target frames, each with support frames of the same video.

    Attributes:
        images: targets, RGB 0..255, zero-padded right and below to a multiple of 32.
        supports: support frames, padded like the targets; S may be 0.
        image_sizes: unpadded (height, width) of each clip in pixels; supports share it.
    """

    images: UInt8[Tensor, "B 3 H W"] | Float[Tensor, "B 3 H W"]
    supports: UInt8[Tensor, "B S 3 H W"] | Float[Tensor, "B S 3 H W"]
    image_sizes: Int[Tensor, "B 2"]

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> Clip:
        """The same clip on `device`."""
        return Clip(
            self.images.to(device, non_blocking=non_blocking),
            self.supports.to(device, non_blocking=non_blocking),
            self.image_sizes.to(device, non_blocking=non_blocking),
        )


@dataclass(frozen=True, slots=True)
class Targets:
    """Ground truth of a target frame: boxes in pixels of the (resized) clip, labels 0..K-1."""

    boxes_xyxy: Float[Tensor, "M 4"]
    labels: Int[Tensor, " M"]

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> Targets:
        """The same targets on `device`."""
        return Targets(
            self.boxes_xyxy.to(device, non_blocking=non_blocking),
            self.labels.to(device, non_blocking=non_blocking),
        )


@dataclass(frozen=True, slots=True)
class DetectorOutput:
    """What every stage predicts for the target frames; the last stage is the result.

    Attributes:
        logits: class scores before the sigmoid.
        boxes_xyxy: refined boxes in clip pixels; may leave the image.
        proposals_xyxy: the learned proposals that entered the first stage.
        image_sizes: unpadded (height, width) of each clip in pixels.
    """

    logits: Float[Tensor, "T B N K"]
    boxes_xyxy: Float[Tensor, "T B N 4"]
    proposals_xyxy: Float[Tensor, "B N 4"]
    image_sizes: Int[Tensor, "B 2"]

    def __getitem__(self, frames: slice) -> DetectorOutput:
        """Of some of the target frames."""
        return DetectorOutput(
            self.logits[:, frames],
            self.boxes_xyxy[:, frames],
            self.proposals_xyxy[frames],
            self.image_sizes[frames],
        )

    def clone(self) -> DetectorOutput:
        """A copy in memory of its own."""
        return DetectorOutput(
            self.logits.clone(),
            self.boxes_xyxy.clone(),
            self.proposals_xyxy.clone(),
            self.image_sizes.clone(),
        )


@dataclass(frozen=True, slots=True)
class Detections:
    """Final detections of one frame, best first.

    Attributes:
        boxes_xyxy: [M, 4] float32, pixels of the source frame, inside it.
        scores: [M] float32 in 0..1.
        labels: [M] int64, positions in the model's category list.
    """

    boxes_xyxy: Float[np.ndarray, "M 4"]
    scores: Float[np.ndarray, " M"]
    labels: Int[np.ndarray, " M"]

    def __post_init__(self) -> None:
        count = len(self.boxes_xyxy)
        if self.boxes_xyxy.shape != (count, 4):
            raise ValueError(f"boxes_xyxy: expected shape (M, 4), got {self.boxes_xyxy.shape}")
        for name, values in (("scores", self.scores), ("labels", self.labels)):
            if values.shape != (count,):
                raise ValueError(f"{name}: expected shape ({count},), got {values.shape}")

    def __len__(self) -> int:
        return len(self.boxes_xyxy)

    def __getitem__(self, index: slice | np.ndarray) -> Detections:
        """The detections that a slice, a boolean mask or an index array selects."""
        return Detections(self.boxes_xyxy[index], self.scores[index], self.labels[index])

    def above(self, score: float) -> Detections:
        """Those with a score greater than `score`."""
        return self[self.scores > score]


@dataclass(frozen=True, slots=True)
class Frame:
    """One decoded frame.

    Attributes:
        index: position in presentation order, from 0.
        time_s: exact presentation time in seconds from the container, None where it has none.
        image: RGB pixels, rotation applied.
    """

    index: int
    time_s: Fraction | None
    image: UInt8[np.ndarray, "H W 3"]


@dataclass(frozen=True, slots=True)
class FrameDetections:
    """A frame of a video and what was found in it."""

    frame: Frame
    detections: Detections

    @property
    def boxes_xyxy(self) -> np.ndarray:
        return self.detections.boxes_xyxy

    @property
    def scores(self) -> np.ndarray:
        return self.detections.scores

    @property
    def labels(self) -> np.ndarray:
        return self.detections.labels
