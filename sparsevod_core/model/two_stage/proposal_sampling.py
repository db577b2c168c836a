"""Choice of the proposals on which the box head is trained, and what it should predict for them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from sparsevod_core.model.two_stage.assignment import assign, sample
from sparsevod_core.model.two_stage.box_code import encode
from sparsevod_core.model.two_stage.region_proposals import Proposals
from sparsevod_core.structures import HeadSamples, Targets


@dataclass(frozen=True, slots=True)
class SampledProposals:
    """Sampled proposals of target frames, padded to the same number.

    Attributes:
        boxes_xyxy: those of an object first.
        labels: class of each one; K: background.
        delta_targets: deltas that lead to the object; zeros for the background.
        is_sampled: which rows are proposals; the others are padding.
    """

    boxes_xyxy: Float[Tensor, "B R 4"]
    labels: Int[Tensor, "B R"]
    delta_targets: Float[Tensor, "B R 4"]
    is_sampled: Bool[Tensor, "B R"]

    def with_predictions(
        self, logits: Float[Tensor, "B R classes"], deltas: Float[Tensor, "B R deltas"]
    ) -> HeadSamples:
        """Return the samples of all frames for the loss, in fp32."""
        num_classes = logits.shape[-1] - 1
        objects = (self.is_sampled & (self.labels < num_classes)).nonzero(as_tuple=True)
        of_class = deltas.unflatten(-1, (num_classes, 4))[(*objects, self.labels[objects])]
        return HeadSamples(
            logits[self.is_sampled].float(),
            self.labels[self.is_sampled],
            of_class.float(),
            self.delta_targets[objects],
        )


@dataclass(frozen=True, slots=True)
class ProposalSampler:
    """Random sampling among proposals and ground-truth boxes, with the rules of MMDetection.

    Attributes:
        num_classes: K.
        num_samples: number of samples of a frame, if it has so many candidates.
        positive_share: largest share of samples of an object, 0..1.
        positive_iou: IoU with a ground-truth box from which a proposal belongs to it; proposals
            with less are background.
        stds: scales of the box deltas.
    """

    num_classes: int
    num_samples: int
    positive_share: float
    positive_iou: float
    stds: Sequence[float]

    @torch.no_grad()
    def __call__(self, proposals: Proposals, targets: Sequence[Targets]) -> SampledProposals:
        """Sample proposals of each frame with torch's global CPU generator."""
        frames = []
        for boxes_xyxy, valid, truth in zip(proposals.boxes, proposals.valid, targets, strict=True):
            candidates, assigned = self.candidates(boxes_xyxy[valid], truth)
            positives, negatives = sample(assigned, self.num_samples, self.positive_share)
            chosen = torch.cat([positives, negatives])
            labels, delta_targets = self.goals(candidates, assigned, chosen, truth)
            is_sampled = torch.ones_like(labels, dtype=torch.bool)
            frames.append((candidates[chosen], labels, delta_targets, is_sampled))
        columns = zip(*frames, strict=True)
        return SampledProposals(
            *(pad_sequence(list(column), batch_first=True) for column in columns)
        )

    def candidates(
        self, proposals_xyxy: Float[Tensor, "n 4"], truth: Targets
    ) -> tuple[Float[Tensor, "candidates 4"], Int[Tensor, " candidates"]]:
        """Return ground-truth boxes and proposals, and what each is assigned to (see `assign`)."""
        truth_xyxy = truth.boxes_xyxy.to(proposals_xyxy)
        assigned = assign(proposals_xyxy, truth_xyxy, *[self.positive_iou] * 3)
        of_truth = torch.arange(len(truth_xyxy), device=assigned.device)
        return torch.cat([truth_xyxy, proposals_xyxy]), torch.cat([of_truth, assigned])

    def goals(
        self,
        candidates: Float[Tensor, "candidates 4"],
        assigned: Int[Tensor, " candidates"],
        chosen: Int[Tensor, " R"],
        truth: Targets,
    ) -> tuple[Int[Tensor, " R"], Float[Tensor, "R 4"]]:
        """Return labels and delta targets of the candidates with the indices `chosen`."""
        boxes_xyxy, assigned = candidates[chosen], assigned[chosen]
        objects = assigned >= 0
        labels = torch.full_like(assigned, self.num_classes)
        labels[objects] = truth.labels[assigned[objects]]
        delta_targets = torch.zeros_like(boxes_xyxy)
        of_objects = candidates[assigned[objects]]  # the candidates begin with the ground truth
        delta_targets[objects] = encode(boxes_xyxy[objects], of_objects, self.stds)
        return labels, delta_targets
