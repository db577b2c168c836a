"""Loss of two-stage detectors: region proposals and box head."""

from __future__ import annotations

from collections.abc import Sequence

from sparsevod_core.losses.box_head import head_losses
from sparsevod_core.losses.losses import Losses
from sparsevod_core.losses.region_proposals import proposal_losses
from sparsevod_core.structures import Targets, TwoStageOutput

PROPOSAL_BETA = 1 / 9
HEAD_BETA = 1.0


class TwoStageCriterion:
    """Losses of the region proposal network and of the box head, with MMDetection's weights.

    Args:
        num_batches: number of batches in a step, among which the losses are averaged.
    """

    def __init__(self, *, num_batches: int) -> None:
        self.num_batches = num_batches

    def __call__(
        self, output: TwoStageOutput, targets: Sequence[Targets], num_boxes: float
    ) -> Losses:
        """Return the losses of a batch.

        Args:
            output: sampled anchors and proposals, with what is predicted for them.
            targets: not used: the samples hold what should be predicted.
            num_boxes: not used: losses are divided by the number of samples.
        """
        proposals = proposal_losses(output.proposals, PROPOSAL_BETA)
        head = head_losses(output.head, HEAD_BETA)
        losses = {
            "objectness": proposals.objectness,
            "proposal_boxes": proposals.boxes,
            "class": head.classes,
            "boxes": head.boxes,
        }
        return Losses({name: loss[None] / self.num_batches for name, loss in losses.items()})
