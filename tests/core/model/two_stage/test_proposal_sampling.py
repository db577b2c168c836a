"""Proposals for the loss of the box head: candidates, shares, labels, targets and padding."""

from __future__ import annotations

import torch

from sparsevod_core.losses.box_head import head_losses
from sparsevod_core.model.two_stage.box_code import encode
from sparsevod_core.model.two_stage.proposal_sampling import ProposalSampler
from sparsevod_core.model.two_stage.region_proposals import Proposals
from sparsevod_core.structures import HeadSamples, Targets

STDS = (0.2,) * 4


def sampler(**changes):
    settings = {"num_classes": 3, "num_samples": 6, "positive_share": 0.5, "positive_iou": 0.5}
    return ProposalSampler(stds=STDS, **settings | changes)


def truth(boxes, labels):
    return Targets(torch.tensor(boxes).reshape(-1, 4).float(), torch.tensor(labels).long())


def proposals(*frames):
    """Return proposals of frames with different numbers of boxes."""
    boxes = [torch.tensor(frame).float().reshape(-1, 4) for frame in frames]
    padded = torch.nn.utils.rnn.pad_sequence(boxes, batch_first=True, padding_value=9.0)
    counts = torch.tensor([len(frame) for frame in boxes])
    return Proposals(padded, torch.zeros(padded.shape[:2]), counts)


def test_ground_truth_is_a_candidate_and_padding_is_not():
    first = [(0, 0, 20, 20), (0, 0, 18, 20), (50, 50, 60, 60)]
    targets = [truth([(0, 0, 20, 21)], [2]), truth([], [])]
    sampled = sampler()(proposals(first, [(5, 5, 9, 9)]), targets)
    assert sampled.is_sampled.tolist() == [[True] * 4, [True, False, False, False]]
    assert sampled.labels[0].tolist() == [2, 2, 2, 3]
    assert sampled.labels[1, 0] == 3
    boxes = torch.tensor([[0.0, 0, 20, 21], *first])
    assert torch.equal(sampled.boxes_xyxy[0], boxes)
    expected = encode(boxes[:3], boxes[:1].expand(3, 4), STDS)
    torch.testing.assert_close(sampled.delta_targets[0, :3], expected)
    assert not sampled.delta_targets[0, 3].any()


def test_at_most_a_share_belongs_to_objects():
    good = [(0, 0, 20 + i, 20) for i in range(8)]
    bad = [(60 + i, 60, 80 + i, 80) for i in range(8)]
    torch.manual_seed(0)
    (labels,) = sampler()(proposals(good + bad), [truth([(0, 0, 22, 20)], [1])]).labels
    assert labels.tolist() == [1, 1, 1, 3, 3, 3]


def test_a_box_takes_its_best_proposal_from_a_box_that_it_overlaps_more():
    targets = truth([(0, 0, 10, 10), (0, 0, 10, 16)], [0, 1])
    candidates = torch.tensor([[0.0, 0, 10, 14], [70, 70, 80, 80]])
    _, assigned = sampler().candidates(candidates, targets)
    assert assigned.tolist() == [0, 1, 1, -1]  # of two boxes that take a proposal, the last one
    _, assigned = sampler().candidates(candidates, truth([(0, 0, 10, 16), (0, 0, 10, 10)], [1, 0]))
    assert assigned.tolist() == [0, 1, 1, -1]  # IoU .71, although that with the other is .875


def test_losses_by_hand():
    logits = torch.zeros(4, 3)
    logits[0, 1] = 2.0
    samples = HeadSamples(
        logits,
        torch.tensor([1, 0, 2, 2]),
        torch.tensor([[0.5, 0, 0, 0], [0, 3.0, 0, 0]]),
        torch.zeros(2, 4),
    )
    losses = head_losses(samples, beta=1.0)
    log3 = torch.log(torch.tensor(3.0))
    first = torch.log(torch.exp(torch.tensor(2.0)) + 2) - 2
    torch.testing.assert_close(losses.classes, (first + 3 * log3) / 4)
    torch.testing.assert_close(losses.boxes, torch.tensor((0.125 + 2.5) / 4))


def test_predictions_of_an_object_are_those_of_its_class():
    sampled = sampler()(proposals([(0, 0, 20, 20)]), [truth([(0, 0, 20, 21)], [1])])
    deltas = torch.arange(24.0).reshape(1, 2, 12)
    samples = sampled.with_predictions(torch.zeros(1, 2, 4), deltas)
    assert samples.deltas.tolist() == [[4, 5, 6, 7], [16, 17, 18, 19]]
    assert samples.labels.tolist() == [1, 1]
