"""A frame's proposals at every stage, and the objects they end on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from torchvision.ops import box_iou

SAME_OBJECT_IOU = 0.5
ALIKE_IOU = 0.9


@dataclass(frozen=True, slots=True)
class StageNames:
    """What the stages of a detector are called.

    Attributes:
        proposals: What the first stage starts from, as a title.
        proposal: One of them.
        origin: Where they come from.
        stages: Title of each stage.
    """

    proposals: str
    proposal: str
    origin: str
    stages: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerAttention:
    """What the proposals of a frame take from its S support frames in one layer.

    Attributes:
        name: Name of the layer; layers of one kind differ in a number at the end.
        stage: Stage that the layer belongs to, 1..T.
        weights: Weight of every frame for each proposal, averaged over attention heads; the frame
            itself is last. They sum to 1, unless frames are left out.
        boxes_xyxy: Boxes of the support frames' proposals, in pixels of these frames. None: the
            layer reads maps.
        proposals: Weight of every support proposal for every proposal of the frame, None as above.
        points: (x, y) in pixels of the most similar place for each RoI bin; None: no such search.
        point_weights: Weight of every support frame for each RoI bin, None as above.
    """

    name: str
    stage: int
    weights: Float[np.ndarray, "N S_plus_1"]
    boxes_xyxy: Float[np.ndarray, "S n 4"] | None = None
    proposals: Float[np.ndarray, "N S n"] | None = None
    points: Float[np.ndarray, "N S bins 2"] | None = None
    point_weights: Float[np.ndarray, "N S bins"] | None = None

    @property
    def kind(self) -> str:
        """The name without its number."""
        return self.name.rstrip("0123456789")


@dataclass(frozen=True, slots=True)
class SupportFrame:
    """A support frame: its number in the video and its RGB pixels."""

    index: int
    image: UInt8[np.ndarray, "H W 3"]


@dataclass(frozen=True, slots=True)
class StageView:
    """Results of every stage for one frame. Boxes are in pixels of the frame, not clipped.

    Attributes:
        image: RGB pixels of the frame.
        proposals_xyxy: Learned or region proposals, or points, the input of stage 1.
        stage_boxes: Boxes of each stage, `xyxy`; proposal n is n-th everywhere.
        stage_scores: Score of the best class, 0..1.
        stage_labels: Best class, 0..K-1.
        title: Title of the frame, one or two lines.
        supports: Support frames.
        attention: Attention to the support frames in each layer; none without support frames.
        proposal_scores: Scores of the proposals, 0..1; None: they have none.
    """

    image: UInt8[np.ndarray, "H W 3"]
    proposals_xyxy: Float[np.ndarray, "N 4"]
    stage_boxes: Float[np.ndarray, "T N 4"]
    stage_scores: Float[np.ndarray, "T N"]
    stage_labels: Int[np.ndarray, "T N"]
    title: str = ""
    supports: tuple[SupportFrame, ...] = ()
    attention: tuple[LayerAttention, ...] = ()
    proposal_scores: Float[np.ndarray, " N"] | None = None

    def __post_init__(self) -> None:
        num_stages, num_proposals = self.stage_scores.shape
        for name, expected in (
            ("proposals_xyxy", (num_proposals, 4)),
            ("stage_boxes", (num_stages, num_proposals, 4)),
            ("stage_labels", (num_stages, num_proposals)),
        ):
            if (shape := getattr(self, name).shape) != expected:
                raise ValueError(f"{name}: expected shape {expected}, got {shape}")

    @property
    def num_stages(self) -> int:
        """Number of stages, T."""
        return len(self.stage_scores)

    def layers_at(self, stage: int) -> list[int]:
        """Return the layers of attention in a stage (1..T), or in the last one before with any."""
        stages = [layer.stage for layer in self.attention if layer.stage <= stage]
        return [i for i, layer in enumerate(self.attention) if stages and layer.stage == stages[-1]]

    def last_layers(self, stage: int) -> list[int]:
        """Return the last layer of each kind of `layers_at`."""
        return sorted({self.attention[i].kind: i for i in self.layers_at(stage)}.values())

    def path(self, proposal: int) -> Float[np.ndarray, "T_plus_1 2"]:
        """Return the centers of a proposal's box, from the first one to the last stage's."""
        boxes = np.concatenate([self.proposals_xyxy[None], self.stage_boxes])[:, proposal]
        return (boxes[:, :2] + boxes[:, 2:]) / 2


@dataclass(frozen=True, slots=True)
class EndObjects:
    """Objects that the last stage detects in a frame, and the proposals that end on them.

    Attributes:
        best: Proposal that detects each of the O objects with the highest score, best first.
        of_proposal: Object, 0..O-1, on which each proposal ends; -1: none.
    """

    best: Int[np.ndarray, " O"]
    of_proposal: Int[np.ndarray, " N"]


def end_objects(view: StageView, score: float) -> EndObjects:
    """Group the proposals of a frame by the object that their last box overlaps.

    An object is a box of the last stage with a score greater than `score` that does not overlap a
    better one of its class (IoU 0.5). A proposal ends on the object with which its last box has the
    largest IoU, if that is at least 0.5. Its score does not matter: duplicates that the last stage
    rejects belong to their object too.
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
    # A box that is drawn with a class name only belongs to an object of that class.
    fits = same_class[:, best] | ~(scores > score)[:, None]
    reach = np.where(fits, overlap[:, best], 0.0)
    nearest = reach.argmax(axis=1)
    return EndObjects(np.array(best), np.where(reach.max(axis=1) >= SAME_OBJECT_IOU, nearest, -1))


def mean_overlap(boxes_xyxy: Float[np.ndarray, "N 4"]) -> float:
    """Return the mean IoU over all pairs of boxes, 0..1; 0 without pairs."""
    count = len(boxes_xyxy)
    if count < 2:
        return 0.0
    upper = np.triu_indices(count, k=1)
    return float(overlaps(boxes_xyxy)[upper].mean())


def are_alike(boxes_xyxy: Float[np.ndarray, "N 4"]) -> bool:
    """Return True if boxes are nearly identical, like proposals with `image` initialization."""
    return mean_overlap(boxes_xyxy) > ALIKE_IOU


def overlaps(boxes_xyxy: Float[np.ndarray, "N 4"]) -> Float[np.ndarray, "N N"]:
    """Return the IoU of every pair; 0 if both are empty."""
    boxes = torch.from_numpy(upright(boxes_xyxy))
    return box_iou(boxes, boxes).nan_to_num(0.0).numpy()


def upright(boxes_xyxy: Float[np.ndarray, "*n 4"]) -> Float[np.ndarray, "*n 4"]:
    """Sort the corners: a learned proposal may have a negative width or height."""
    first, second = boxes_xyxy[..., :2], boxes_xyxy[..., 2:]
    return np.concatenate([np.minimum(first, second), np.maximum(first, second)], axis=-1)


def visible(
    boxes_xyxy: Float[np.ndarray, "N 4"], width: int, height: int
) -> tuple[Float[np.ndarray, "N 4"], Bool[np.ndarray, " N"]]:
    """Return boxes clipped to a frame, and which of them overlap the frame."""
    clipped = np.clip(upright(boxes_xyxy), 0, [width, height, width, height])
    return clipped, (clipped[:, 2:] > clipped[:, :2]).all(axis=1)
