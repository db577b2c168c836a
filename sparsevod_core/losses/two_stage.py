"""Loss of two-stage detectors (Ren et al., NeurIPS 2015) with the weights of MMDetection."""

from __future__ import annotations

from collections.abc import Sequence

from sparsevod_core.losses.box_head import head_losses
from sparsevod_core.losses.losses import Losses
from sparsevod_core.losses.region_proposals import proposal_losses
from sparsevod_core.structures import Targets, TwoStageOutput

PROPOSAL_BETA = 1 / 9
HEAD_BETA = 1.0


class TwoStageCriterion:
    """Losses of the region proposal network and of the box head, each with weight 1."""

    def __call__(
        self, output: TwoStageOutput, targets: Sequence[Targets], num_boxes: float
    ) -> Losses:
        """Return the losses of a batch, each divided by the number of samples of this batch.

        Args:
            output: Sampled anchors and proposals; their targets are already among them.
            targets, num_boxes: Not used.
        """
        proposals = proposal_losses(output.proposals, PROPOSAL_BETA)
        head = head_losses(output.head, HEAD_BETA)
        return Losses(
            {
                "objectness": proposals.objectness[None],
                "proposal_boxes": proposals.boxes[None],
                "class": head.classes[None],
                "boxes": head.boxes[None],
            }
        )
