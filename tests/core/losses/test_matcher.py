"""Hungarian matching: cases computed by hand and edge cases."""

from __future__ import annotations

import itertools

import torch

from sparsevod_core.config import LossConfig
from sparsevod_core.losses.matcher import match, matching_cost
from sparsevod_core.structures import DetectorOutput, Targets


def random_output(stages=2, clips=2, proposals=5, classes=3):
    generator = torch.Generator().manual_seed(0)
    low = torch.rand(stages, clips, proposals, 2, generator=generator) * 50
    high = low + 1 + torch.rand(stages, clips, proposals, 2, generator=generator) * 50
    logits = torch.randn(stages, clips, proposals, classes, generator=generator)
    boxes = torch.cat([low, high], -1)
    return DetectorOutput(logits, boxes, boxes[0], torch.tensor([[100, 100]] * clips))


def empty():
    return Targets(torch.zeros(0, 4), torch.zeros(0, dtype=torch.long))


def test_matching_has_the_lowest_cost_of_all_assignments():
    output = random_output(stages=1, clips=1)
    target = Targets(
        torch.tensor([[0.0, 0, 30, 30], [20, 20, 90, 90], [5, 50, 40, 80]]),
        torch.tensor([0, 1, 2]),
    )
    cost = matching_cost(output, [target], LossConfig())[0, 0]
    [[(proposals, boxes)]] = match(output, [target], LossConfig())
    matched = cost[proposals, boxes].sum()
    cheapest = min(
        sum(cost[p, b] for b, p in enumerate(chosen))
        for chosen in itertools.permutations(range(5), 3)
    )
    torch.testing.assert_close(matched, cheapest)


def test_a_perfect_proposal_is_matched_at_the_cost_computed_by_hand():
    output = random_output(stages=1, clips=1)
    box = torch.tensor([[10.0, 20, 50, 60]])
    output.boxes_xyxy[0, 0, 3] = box[0]
    output.logits[0, 0, 3] = torch.tensor([-9.0, 9.0, -9.0])
    target = Targets(box, torch.tensor([1]))
    [[(proposals, _)]] = match(output, [target], LossConfig())
    assert proposals.tolist() == [3]
    p = torch.tensor(9.0).sigmoid()
    focal = -0.25 * (1 - p) ** 2 * p.log() + 0.75 * p**2 * (1 - p).log()
    cost = matching_cost(output, [target], LossConfig())[0, 0, 3, 0]
    torch.testing.assert_close(cost, 2 * focal - 2.0, atol=1e-3, rtol=1e-4)


def test_clips_with_different_numbers_of_boxes_are_independent():
    output = random_output()
    two = Targets(torch.tensor([[0.0, 0, 30, 30], [20, 20, 90, 90]]), torch.tensor([0, 1]))
    pairs = match(output, [two, empty()], LossConfig())
    assert [len(p) for stage in pairs for p, _ in stage] == [2, 0, 2, 0]


def test_all_clips_empty():
    pairs = match(random_output(), [empty(), empty()], LossConfig())
    assert all(len(p) == len(b) == 0 for stage in pairs for p, b in stage)


def test_more_boxes_than_proposals():
    output = random_output(stages=1, clips=1, proposals=2)
    boxes = torch.tensor([[0.0, 0, 30, 30], [20, 20, 90, 90], [5, 50, 40, 80]])
    [[(proposals, matched)]] = match(
        output, [Targets(boxes, torch.tensor([0, 1, 2]))], LossConfig()
    )
    assert sorted(proposals.tolist()) == [0, 1]
    assert len(set(matched.tolist())) == 2
