"""Assignment by IoU and sampling: cases worked by hand, and empty ground truth."""

from __future__ import annotations

import pytest
import torch

from sparsevod_core.model.two_stage.assignment import IGNORED, NEGATIVE, assign, sample


def bars(*widths):
    """Return boxes of height 10 from x = 0; the IoU of two is the ratio of their widths."""
    return torch.tensor([[0.0, 0, width, 10] for width in widths])


def test_thresholds_include_their_lower_end():
    truth = bars(100)
    boxes = bars(100, 70, 69, 30, 29, 1)
    assigned = assign(boxes, truth, 0.7, 0.3, None)
    assert assigned.tolist() == [0, 0, IGNORED, IGNORED, NEGATIVE, NEGATIVE]


def test_a_truth_takes_its_best_box_from_the_minimum_on():
    truth = torch.tensor([[0.0, 0, 100, 10], [200, 0, 300, 10]])
    boxes = torch.tensor([[0.0, 0, 40, 10], [0, 0, 35, 10], [200, 0, 220, 10]])
    assert assign(boxes, truth, 0.7, 0.3, 0.3).tolist() == [0, IGNORED, NEGATIVE]
    assert assign(boxes, truth, 0.7, 0.3, 0.0).tolist() == [0, IGNORED, 1]
    assert assign(boxes, truth, 0.7, 0.3, None).tolist() == [IGNORED, IGNORED, NEGATIVE]


def test_all_best_boxes_are_taken_and_the_last_truth_wins():
    twice = bars(50, 50)
    assert assign(twice, bars(100), 0.7, 0.3, 0.3).tolist() == [0, 0]
    # The first truth is the nearest of both boxes; the second one takes them nevertheless.
    assert assign(twice, bars(60, 70), 0.7, 0.3, 0.3).tolist() == [1, 1]
    assert assign(twice, bars(60, 70), 0.7, 0.3, None).tolist() == [0, 0]


def test_a_truth_without_overlap_takes_nothing():
    far = torch.tensor([[500.0, 0, 600, 10]])
    assert assign(bars(10, 20), far, 0.7, 0.3, 0.0).tolist() == [NEGATIVE, NEGATIVE]
    point = torch.zeros(1, 4)
    assert assign(torch.zeros(2, 4), point, 0.7, 0.3, 0.0).tolist() == [NEGATIVE, NEGATIVE]


def test_without_truth_all_boxes_are_negative():
    assigned = assign(bars(10, 20, 30), torch.zeros(0, 4), 0.7, 0.3, 0.3)
    assert assigned.tolist() == [NEGATIVE] * 3
    positives, negatives = sample(assigned, 2, 0.5)
    assert len(positives) == 0 and len(negatives) == 2
    assert assign(torch.zeros(0, 4), bars(10), 0.7, 0.3, 0.3).tolist() == []


@pytest.mark.parametrize(
    ("num_positive", "num_negative", "expected"),
    [(100, 100, (4, 12)), (3, 100, (3, 13)), (100, 5, (4, 5)), (0, 0, (0, 0))],
)
def test_negatives_fill_what_positives_leave(num_positive, num_negative, expected):
    assigned = torch.tensor([2] * num_positive + [IGNORED] * 50 + [NEGATIVE] * num_negative)
    positives, negatives = sample(assigned.long(), 16, 0.25)
    assert (len(positives), len(negatives)) == expected
    assert (assigned[positives] >= 0).all() and (assigned[negatives] == NEGATIVE).all()
    assert len(positives.unique()) == len(positives) and len(negatives.unique()) == len(negatives)


def test_the_draw_is_uniform_and_follows_the_seed():
    assigned = torch.full((8,), NEGATIVE)
    torch.manual_seed(3)
    draws = [sample(assigned, 2, 0.5)[1].tolist() for _ in range(2000)]
    counts = torch.tensor(draws).flatten().bincount(minlength=8)
    assert counts.min() > 400 and counts.max() < 600  # 500 ± 19 expected
    torch.manual_seed(3)
    assert sample(assigned, 2, 0.5)[1].tolist() == draws[0]
