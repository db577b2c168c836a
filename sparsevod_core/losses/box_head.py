"""Loss of the box head of Faster R-CNN (Ren et al., NeurIPS 2015)."""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from sparsevod_core.structures import HeadSamples


@dataclass(frozen=True, slots=True)
class HeadLosses:
    """Losses of a batch, divided by the number of sampled proposals."""

    classes: Float[Tensor, ""]
    boxes: Float[Tensor, ""]

    @property
    def total(self) -> Float[Tensor, ""]:
        """Sum of the losses."""
        return self.classes + self.boxes


def head_losses(samples: HeadSamples, beta: float) -> HeadLosses:
    """Return cross-entropy of all samples, and smooth L1 of the deltas of those with an object.

    Both are divided by the number of all samples, as in MMDetection.

    Args:
        samples: sampled proposals; there may be none.
        beta: size of a deviation from which on the smooth L1 loss is linear.
    """
    num_samples = max(len(samples.labels), 1)
    classes = F.cross_entropy(samples.logits, samples.labels, reduction="sum")
    boxes = F.smooth_l1_loss(samples.deltas, samples.delta_targets, beta=beta, reduction="sum")
    return HeadLosses(classes / num_samples, boxes / num_samples)
