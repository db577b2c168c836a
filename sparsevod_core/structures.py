"""Data structures passed between data, model, losses and output.

Dimensions in shapes: B clips, S support frames, L frames of a video, N proposals, C channels,
K classes, T stages, M boxes of a frame (ground truth or detections), H and W pixels. Boxes are
`xyxy` in pixels unless the name says otherwise.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from itertools import islice
from typing import TypeAlias, overload

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from sparsevod_core.category import Category as Category  # re-exported beside its users


@dataclass(frozen=True, slots=True)
class Clip:
    """Batch of target frames, each with support frames of the same video.

    Attributes:
        images: Target frames, RGB 0..255, zero-padded right and below to a multiple of
            `data.pad_multiple`.
        supports: Support frames, padded like the target frames; S may be 0.
        image_sizes: Unpadded (height, width) of each clip's frames in pixels.
        groups: Numbers of support frames of each group, in their order: MEGA has local frames,
            frames for its memory and global frames; empty for others.
    """

    images: UInt8[Tensor, "B 3 H W"] | Float[Tensor, "B 3 H W"]
    supports: UInt8[Tensor, "B S 3 H W"] | Float[Tensor, "B S 3 H W"]
    image_sizes: Int[Tensor, "B 2"]
    groups: tuple[int, ...] = ()

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> Clip:
        """Return a copy on `device`."""
        return replace(
            self,
            images=self.images.to(device, non_blocking=non_blocking),
            supports=self.supports.to(device, non_blocking=non_blocking),
            image_sizes=self.image_sizes.to(device, non_blocking=non_blocking),
        )


@dataclass(frozen=True, slots=True)
class Targets:
    """Ground truth of a target frame.

    Attributes:
        boxes_xyxy: Boxes in pixels of the (resized) clip.
        labels: Classes, 0..K-1.
    """

    boxes_xyxy: Float[Tensor, "M 4"]
    labels: Int[Tensor, " M"]

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> Targets:
        """Return a copy on `device`."""
        return Targets(
            self.boxes_xyxy.to(device, non_blocking=non_blocking),
            self.labels.to(device, non_blocking=non_blocking),
        )


@dataclass(frozen=True, slots=True)
class DetectorOutput:
    """Predictions of every stage for a batch of target frames; the last stage is the result.

    Attributes:
        logits: Class scores before the sigmoid.
        boxes_xyxy: Refined boxes in clip pixels; they may extend beyond the image.
        proposals_xyxy: Learned proposals that entered the first stage.
        image_sizes: Unpadded (height, width) of each clip's frames in pixels.
    """

    logits: Float[Tensor, "T B N K"]
    boxes_xyxy: Float[Tensor, "T B N 4"]
    proposals_xyxy: Float[Tensor, "B N 4"]
    image_sizes: Int[Tensor, "B 2"]

    def __getitem__(self, frames: slice) -> DetectorOutput:
        """Return the predictions for some of the target frames."""
        return DetectorOutput(
            self.logits[:, frames],
            self.boxes_xyxy[:, frames],
            self.proposals_xyxy[frames],
            self.image_sizes[frames],
        )

    def clone(self) -> DetectorOutput:
        """Return a copy that shares no memory with this one."""
        return DetectorOutput(
            self.logits.clone(),
            self.boxes_xyxy.clone(),
            self.proposals_xyxy.clone(),
            self.image_sizes.clone(),
        )


@dataclass(frozen=True, slots=True)
class ProposalSamples:
    """Sampled anchors of a batch of frames, for the loss of a region proposal network (RPN).

    Attributes:
        logits: Objectness of the R sampled anchors before the sigmoid.
        labels: 1 for anchors of an object, 0 for background.
        deltas: Predicted box deltas of the anchors with label 1, in order.
        delta_targets: Deltas that lead from these anchors to their objects.
    """

    logits: Float[Tensor, " R"]
    labels: Float[Tensor, " R"]
    deltas: Float[Tensor, "P 4"]
    delta_targets: Float[Tensor, "P 4"]


@dataclass(frozen=True, slots=True)
class HeadSamples:
    """Sampled proposals of a batch of frames, for the loss of a box head.

    Attributes:
        logits: K + 1 class scores of the R sampled proposals before the softmax, the background
            last.
        labels: Classes, 0..K-1; K: background.
        deltas: Predicted box deltas, of their own class, of the P proposals of an object, in order.
        delta_targets: Deltas that lead from these proposals to their objects.
    """

    logits: Float[Tensor, "R classes"]
    labels: Int[Tensor, " R"]
    deltas: Float[Tensor, "P 4"]
    delta_targets: Float[Tensor, "P 4"]


@dataclass(frozen=True, slots=True)
class TwoStageOutput:
    """What a two-stage detector predicts in training, with what it should predict."""

    proposals: ProposalSamples
    head: HeadSamples


@dataclass(frozen=True, slots=True)
class Detection:
    """One detected object.

    Attributes:
        box_xyxy: Left, top, right and bottom edge (x1, y1, x2, y2), in pixels of the source frame.
        score: Confidence score, 0..1.
        label: Class as a position in the model's category list, 0..K-1.
        class_name: Name of the class; `class 3` for label 3 of detections without categories.
        class_id: Id of the class in the annotations that the model was trained on; None without
            categories.
        track_id: Number of the object in the video, from 1; None if it is not known.
    """

    box_xyxy: tuple[float, float, float, float]
    score: float
    label: int
    class_name: str
    class_id: int | None = None
    track_id: int | None = None

    def __str__(self) -> str:
        box = ", ".join(f"{value:.1f}" for value in self.box_xyxy)
        track = "" if self.track_id is None else f" #{self.track_id}"
        return f"{self.class_name}{track} {self.score:.2f} at ({box})"


Selection: TypeAlias = slice | np.ndarray | Tensor | Sequence[int] | Sequence[bool]
"""Selection of several detections: a slice, a boolean mask [M], or indices [any number]."""


@dataclass(frozen=True, slots=True, repr=False)
class Detections:
    """Detections of one frame, highest score first.

    Iterating, and indexing with an integer, give `Detection` objects; a slice, a boolean mask or a
    list of indices selects several:

        for detection in detections:
            print(detection.class_name, detection.score, detection.box_xyxy)
        best, confident = detections[0], detections[detections.scores > 0.5]

    Attributes:
        boxes_xyxy: [M, 4] float32, (x1, y1, x2, y2) in pixels of the source frame.
        scores: [M] float32, confidence scores, 0..1.
        labels: [M] int64, classes as positions in the model's category list.
        categories: The model's classes, `categories[label]`; empty: unknown.
        track_ids: [M] int64, numbers of the objects in the video, from 1; -1 if it is not known.
            None without tracking.

    Raises:
        ValueError: Arrays whose shapes do not fit together.
    """

    boxes_xyxy: Float[np.ndarray, "M 4"]
    scores: Float[np.ndarray, " M"]
    labels: Int[np.ndarray, " M"]
    categories: tuple[Category, ...] = ()
    track_ids: Int[np.ndarray, " M"] | None = None

    def __post_init__(self) -> None:
        count = len(self.boxes_xyxy)
        if self.boxes_xyxy.shape != (count, 4):
            raise ValueError(f"boxes_xyxy: expected shape (M, 4), got {self.boxes_xyxy.shape}")
        for name in ("scores", "labels", "track_ids"):
            values = getattr(self, name)
            if values is not None and values.shape != (count,):
                raise ValueError(f"{name}: expected shape ({count},), got {values.shape}")

    @property
    def class_names(self) -> list[str]:
        """[M] Name of each detection's class."""
        return [detection.class_name for detection in self]

    def __len__(self) -> int:
        return len(self.boxes_xyxy)

    def __iter__(self) -> Iterator[Detection]:
        return map(self.__getitem__, range(len(self)))

    @overload
    def __getitem__(self, index: int) -> Detection: ...
    @overload
    def __getitem__(self, index: Selection) -> Detections: ...
    def __getitem__(self, index: int | Selection) -> Detection | Detections:
        """Return one detection, or those that a slice, a mask or indices select."""
        if isinstance(index, Tensor):
            index = index.cpu().numpy()
        if np.ndim(index) > 0 or isinstance(index, slice):  # type: ignore[arg-type]
            return replace(
                self,
                boxes_xyxy=self.boxes_xyxy[index],
                scores=self.scores[index],
                labels=self.labels[index],
                track_ids=None if self.track_ids is None else self.track_ids[index],
            )
        x1, y1, x2, y2 = self.boxes_xyxy[index].tolist()
        label = int(self.labels[index])
        category = self.categories[label] if self.categories else Category(0, f"class {label}")
        track_id = -1 if self.track_ids is None else int(self.track_ids[index])
        return Detection(
            box_xyxy=(x1, y1, x2, y2),
            score=float(self.scores[index]),
            label=label,
            class_name=category.name,
            class_id=category.id if self.categories else None,
            track_id=None if track_id < 0 else track_id,
        )

    def above(self, score: float) -> Detections:
        """Return the detections with a score greater than `score`."""
        return self[self.scores > score]

    def __repr__(self) -> str:
        first = "; ".join(map(str, islice(self, 3)))
        more = f"; {len(self) - 3} more" if len(self) > 3 else ""
        return f"Detections({len(self)}{': ' if len(self) else ''}{first}{more})"


@dataclass(frozen=True, slots=True)
class Frame:
    """One decoded frame.

    Attributes:
        index: Position in presentation order, from 0.
        time_s: Exact presentation time in seconds, None where the container has none.
        image: RGB pixels, rotation applied.
    """

    index: int
    time_s: Fraction | None
    image: UInt8[np.ndarray, "H W 3"] = field(repr=False)


@dataclass(frozen=True, slots=True, repr=False)
class FrameDetections:
    """A video frame and its detections.

    It iterates and is indexed as `Detections` are; a selection keeps the frame.

    Attributes:
        frame: The frame: `index`, `time_s` and the pixels, `image`.
        detections: Detections in it, in pixels of `frame.image`.
    """

    frame: Frame
    detections: Detections

    @property
    def index(self) -> int:
        """Position of the frame in the video, from 0."""
        return self.frame.index

    @property
    def time_s(self) -> Fraction | None:
        """Presentation time of the frame in seconds, None where the video has no times."""
        return self.frame.time_s

    @property
    def boxes_xyxy(self) -> Float[np.ndarray, "M 4"]:
        """[M, 4] float32, see `Detections`."""
        return self.detections.boxes_xyxy

    @property
    def scores(self) -> Float[np.ndarray, " M"]:
        """[M] float32, see `Detections`."""
        return self.detections.scores

    @property
    def labels(self) -> Int[np.ndarray, " M"]:
        """[M] int64, see `Detections`."""
        return self.detections.labels

    @property
    def categories(self) -> tuple[Category, ...]:
        """The model's classes, see `Detections`."""
        return self.detections.categories

    @property
    def track_ids(self) -> Int[np.ndarray, " M"] | None:
        """[M] int64, see `Detections`."""
        return self.detections.track_ids

    @property
    def class_names(self) -> list[str]:
        """[M] Name of each detection's class."""
        return self.detections.class_names

    def __len__(self) -> int:
        return len(self.detections)

    def __iter__(self) -> Iterator[Detection]:
        return iter(self.detections)

    @overload
    def __getitem__(self, index: int) -> Detection: ...
    @overload
    def __getitem__(self, index: Selection) -> FrameDetections: ...
    def __getitem__(self, index: int | Selection) -> Detection | FrameDetections:
        """Return one detection, or the frame with those that a slice, a mask or indices select."""
        selected = self.detections[index]
        if isinstance(selected, Detection):
            return selected
        return FrameDetections(self.frame, selected)

    def above(self, score: float) -> FrameDetections:
        """Return the frame with the detections whose score is greater than `score`."""
        return FrameDetections(self.frame, self.detections.above(score))

    def __repr__(self) -> str:
        time = "" if self.time_s is None else f" at {float(self.time_s):.3f} s"
        return f"FrameDetections(frame {self.index}{time}, {self.detections!r})"
