"""Set-prediction loss: cases that the reference fixture does not cover."""

from __future__ import annotations

import torch

from sparsevod_core.config import LossConfig
from sparsevod_core.losses.criterion import SetCriterion
from sparsevod_core.structures import DetectorOutput, Targets


def output_of(logits, boxes):
    return DetectorOutput(logits, boxes, boxes[0], torch.tensor([[100, 100]] * logits.shape[1]))


def empty():
    return Targets(torch.zeros(0, 4), torch.zeros(0, dtype=torch.long))


def test_losses_match_values_computed_by_hand():
    logits = torch.tensor([[[[0.0]]]], requires_grad=True)
    boxes = torch.tensor([[[[0.0, 0, 50, 50]]]], requires_grad=True)
    target = Targets(torch.tensor([[0.0, 0, 50, 100]]), torch.tensor([0]))
    losses = SetCriterion(LossConfig())(output_of(logits, boxes), [target], 1.0)
    torch.testing.assert_close(losses["l1"].item(), 5 * 0.5)  # one corner is 50 of 100 px off
    torch.testing.assert_close(losses["giou"].item(), 2 * (1 - 0.5))  # IoU 0.5, hull = union
    focal = 0.25 * 0.5**2 * torch.tensor(2.0).log()
    torch.testing.assert_close(losses["class"].item(), 2 * focal.item())
    losses.total.backward()
    assert boxes.grad.abs().sum() > 0


def test_empty_clips_give_only_a_class_loss():
    logits = torch.zeros(2, 2, 3, 4, requires_grad=True)
    boxes = torch.rand(2, 2, 3, 4).cumsum(-1).requires_grad_()
    losses = SetCriterion(LossConfig())(output_of(logits, boxes), [empty(), empty()], 1.0)
    assert losses["l1"].sum() == 0 and losses["giou"].sum() == 0
    assert losses["class"].sum() > 0
    losses.total.backward()
    assert logits.grad.isfinite().all()
    assert boxes.grad is not None  # every parameter still gets a gradient


def test_one_pixel_and_degenerate_boxes_stay_finite():
    boxes = torch.tensor([[[[5.0, 5, 5, 5], [6, 6, 7, 7]]]], requires_grad=True)
    logits = torch.zeros(1, 1, 2, 2, requires_grad=True)
    target = Targets(torch.tensor([[6.0, 6, 7, 7], [50, 50, 50, 50]]), torch.tensor([0, 1]))
    losses = SetCriterion(LossConfig())(output_of(logits, boxes), [target], 2.0)
    losses.total.backward()
    assert losses.total.isfinite() and boxes.grad.isfinite().all()


def test_losses_are_divided_by_the_number_of_boxes():
    torch.manual_seed(0)
    logits, boxes = torch.randn(1, 1, 4, 2), torch.rand(1, 1, 4, 4).cumsum(-1) * 20
    target = Targets(torch.tensor([[5.0, 5, 40, 40]]), torch.tensor([1]))
    one = SetCriterion(LossConfig())(output_of(logits, boxes), [target], 1.0)
    four = SetCriterion(LossConfig())(output_of(logits, boxes), [target], 4.0)
    torch.testing.assert_close(one.total, 4 * four.total)
    assert set(one.parts) == {"class", "l1", "giou"}
