"""Loss of the region proposal network (Ren et al., NeurIPS 2015)."""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from sparsevod_core.structures import ProposalSamples


@dataclass(frozen=True, slots=True)
class ProposalLosses:
    """Losses of a batch, divided by the number of sampled anchors."""

    objectness: Float[Tensor, ""]
    boxes: Float[Tensor, ""]

    @property
    def total(self) -> Float[Tensor, ""]:
        """Sum of the losses."""
        return self.objectness + self.boxes


def proposal_losses(samples: ProposalSamples, beta: float) -> ProposalLosses:
    """Return binary cross-entropy of all samples, and smooth L1 of the deltas of positive ones.

    Args:
        samples: sampled anchors; there may be none.
        beta: size of a deviation from which on the smooth L1 loss is linear.
    """
    num_samples = max(len(samples.labels), 1)
    objectness = F.binary_cross_entropy_with_logits(samples.logits, samples.labels, reduction="sum")
    boxes = F.smooth_l1_loss(samples.deltas, samples.delta_targets, beta=beta, reduction="sum")
    return ProposalLosses(objectness / num_samples, boxes / num_samples)
