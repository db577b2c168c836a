"""Loss of the RPN: values worked by hand."""

from __future__ import annotations

import math

import torch

from sparsevod_core.losses.region_proposals import proposal_losses
from sparsevod_core.structures import ProposalSamples


def test_both_losses_are_sums_divided_by_the_number_of_samples():
    deltas = torch.tensor([[0.0, 0.05, 0.2, -1.0]])
    samples = ProposalSamples(
        logits=torch.tensor([0.0, 0.0, math.log(3), 0.0]),
        labels=torch.tensor([1.0, 0, 0, 0]),
        deltas=deltas,
        delta_targets=torch.zeros(1, 4),
    )
    losses = proposal_losses(samples, beta=0.1)
    # The third sample has the probability 3/4 of an object.
    expected = (3 * math.log(2) + math.log(4)) / 4
    torch.testing.assert_close(losses.objectness.item(), expected)
    smooth_l1 = 0.05**2 / 0.2 + (0.2 - 0.05) + (1 - 0.05)
    torch.testing.assert_close(losses.boxes.item(), smooth_l1 / 4)
    torch.testing.assert_close(losses.total.item(), expected + smooth_l1 / 4)
