"""Learned proposals: the three initializations and their scale."""

from __future__ import annotations

import pytest
import torch

from sparsevod_core.boxes import cxcywh_to_xyxy
from sparsevod_core.model.proposals import LearnedProposals, initial_boxes


def test_image_boxes_are_the_unpadded_image():
    proposals = LearnedProposals(num_proposals=3, channels=4, init="image")
    boxes, features = proposals(torch.tensor([[60, 90], [30, 40]]))
    assert boxes[0].tolist() == [[0, 0, 90, 60]] * 3
    assert boxes[1].tolist() == [[0, 0, 40, 30]] * 3
    assert features.shape == (2, 3, 4)


@pytest.mark.parametrize("count", [1, 2, 7, 20, 100])
def test_grid_covers_the_image_with_distinct_boxes(count):
    boxes = initial_boxes(count, "grid")
    assert len(boxes.unique(dim=0)) == count
    assert boxes.min() > 0 and boxes.max() <= 1
    corners = cxcywh_to_xyxy(boxes)
    assert corners[:, :2].min() <= 0.01 and corners[:, 2:].max() >= 0.85


def test_random_follows_the_seed():
    torch.manual_seed(5)
    first = initial_boxes(10, "random")
    torch.manual_seed(5)
    assert torch.equal(first, initial_boxes(10, "random"))
    assert len(first.unique(dim=0)) == 10
