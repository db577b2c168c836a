"""One frame's proposals on their way through the stages, and the objects that they end on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from torchvision.ops import box_iou

SAME_OBJECT_IOU = 0.5
ALIKE_IOU = 0.9


@dataclass(frozen=True, slots=True)
class SupportAttention:
    """Where the proposals of a frame look on its S support frames, stage by stage.

    Attributes:
        boxes_xyxy: of each support frame's proposals, in its pixels.
        spfa: weight of each support proposal for each proposal of the frame, mean of the heads;
            S counts the frame's own proposals, the last. They add up to 1. None: SPFA is off.
        tfe_points: x, y in pixels of the most similar place for each RoI bin; None: TFE is off.
        tfe: weight of each frame for each RoI bin, the frame itself last; they add up to 1.
    """

    boxes_xyxy: Float[np.ndarray, "T S N 4"]
    spfa: Float[np.ndarray, "T N S_plus_1 N"] | None
    tfe_points: Float[np.ndarray, "T N S bins 2"] | None
    tfe: Float[np.ndarray, "T N S_plus_1 bins"] | None


@dataclass(frozen=True, slots=True)
class SupportFrame:
    """A support frame: its number in the video, and its RGB pixels."""

    index: int
    image: UInt8[np.ndarray, "H W 3"]


@dataclass(frozen=True, slots=True)
class StageView:
    """What the model did with one frame; boxes in pixels of the frame, which they may leave.

    Attributes:
        image: the frame, RGB.
        proposals_xyxy: the learned proposals, which enter stage 1.
        stage_boxes: boxes that each stage gives, `xyxy`; proposal n is n-th everywhere.
        stage_scores: score of the best class, 0..1.
        stage_labels: that class, 0..K-1.
        title: names the frame; may have two lines.
        supports: its support frames.
        attention: where it looks on them; None where there are none.
    """

    image: UInt8[np.ndarray, "H W 3"]
    proposals_xyxy: Float[np.ndarray, "N 4"]
    stage_boxes: Float[np.ndarray, "T N 4"]
    stage_scores: Float[np.ndarray, "T N"]
    stage_labels: Int[np.ndarray, "T N"]
    title: str = ""
    supports: tuple[SupportFrame, ...] = ()
    attention: SupportAttention | None = None

    def __post_init__(self) -> None:
        stages, proposals = self.stage_scores.shape
        for name, expected in (
            ("proposals_xyxy", (proposals, 4)),
            ("stage_boxes", (stages, proposals, 4)),
            ("stage_labels", (stages, proposals)),
        ):
            if (shape := getattr(self, name).shape) != expected:
                raise ValueError(f"{name}: expected shape {expected}, got {shape}")

    @property
    def num_stages(self) -> int:
        """T."""
        return len(self.stage_scores)

    def path(self, proposal: int) -> Float[np.ndarray, "T_plus_1 2"]:
        """Centres of a proposal's box, from the learned one to that of the last stage."""
        boxes = np.concatenate([self.proposals_xyxy[None], self.stage_boxes])[:, proposal]
        return (boxes[:, :2] + boxes[:, 2:]) / 2


@dataclass(frozen=True, slots=True)
class EndObjects:
    """The objects of a frame, as the last stage sees them, and the proposals that end on each.

    Attributes:
        best: the proposal that finds each of the O objects with the highest score, best first.
        of_proposal: the object, 0..O-1, on which each proposal ends; -1: on none.
    """

    best: Int[np.ndarray, " O"]
    of_proposal: Int[np.ndarray, " N"]


def end_objects(view: StageView, score: float) -> EndObjects:
    """Group the proposals of a frame by the object that their last box lies on.

    An object is a box of the last stage with a score greater than `score` that overlaps no better
    one of its class (IoU 0.5). A proposal ends on the object that its last box overlaps most, if by
    0.5 at least, whatever its own score: those that the last stage gives up as duplicates belong to
    their object too.
    """
    scores, labels = view.stage_scores[-1], view.stage_labels[-1]
    overlap = overlaps(view.stage_boxes[-1])
    same_class = labels[:, None] == labels[None]
    best: list[int] = []
    for proposal in np.argsort(-scores, kind="stable"):
        if not scores[proposal] > score:
            break
        if not np.any((overlap[proposal] >= SAME_OBJECT_IOU)[best] & same_class[proposal, best]):
            best.append(int(proposal))
    if not best:
        return EndObjects(np.zeros(0, np.int64), np.full(len(scores), -1))
    # What is drawn with a class's name stays with an object of that class.
    fits = same_class[:, best] | ~(scores > score)[:, None]
    reach = np.where(fits, overlap[:, best], 0.0)
    nearest = reach.argmax(axis=1)
    return EndObjects(np.array(best), np.where(reach.max(axis=1) >= SAME_OBJECT_IOU, nearest, -1))


def mean_overlap(boxes_xyxy: Float[np.ndarray, "N 4"]) -> float:
    """Mean IoU over all pairs of boxes, 0..1; 0 where there is no pair."""
    count = len(boxes_xyxy)
    if count < 2:
        return 0.0
    upper = np.triu_indices(count, k=1)
    return float(overlaps(boxes_xyxy)[upper].mean())


def are_alike(boxes_xyxy: Float[np.ndarray, "N 4"]) -> bool:
    """Whether boxes are near-identical, as learned proposals that began as the whole image are."""
    return mean_overlap(boxes_xyxy) > ALIKE_IOU


def overlaps(boxes_xyxy: Float[np.ndarray, "N 4"]) -> Float[np.ndarray, "N N"]:
    """IoU of every pair; 0 where both are empty."""
    boxes = torch.from_numpy(upright(boxes_xyxy))
    return box_iou(boxes, boxes).nan_to_num(0.0).numpy()


def upright(boxes_xyxy: Float[np.ndarray, "*n 4"]) -> Float[np.ndarray, "*n 4"]:
    """Corners in order: a learned proposal is free to have a negative width or height."""
    first, second = boxes_xyxy[..., :2], boxes_xyxy[..., 2:]
    return np.concatenate([np.minimum(first, second), np.maximum(first, second)], axis=-1)


def visible(
    boxes_xyxy: Float[np.ndarray, "N 4"], width: int, height: int
) -> tuple[Float[np.ndarray, "N 4"], Bool[np.ndarray, " N"]]:
    """Boxes clipped to a frame of this size, and which of them lie in it at all."""
    clipped = np.clip(upright(boxes_xyxy), 0, [width, height, width, height])
    return clipped, (clipped[:, 2:] > clipped[:, :2]).all(axis=1)
