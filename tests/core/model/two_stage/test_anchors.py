"""Anchors: sides, order and grid, worked by hand."""

from __future__ import annotations

import torch

from sparsevod_core.boxes import area
from sparsevod_core.model.two_stage.anchors import centered_anchors, grid_anchors


def test_areas_and_ratios_are_exact_and_ordered_by_ratio():
    anchors = centered_anchors([64, 128], [0.5, 1, 2])
    torch.testing.assert_close(anchors[:, :2], -anchors[:, 2:])
    torch.testing.assert_close(area(anchors).sqrt(), torch.tensor([64.0, 128] * 3))
    width, height = (2 * anchors[:, 2:]).unbind(-1)
    torch.testing.assert_close(height / width, torch.tensor([0.5, 0.5, 1, 1, 2, 2]))


def test_the_grid_goes_line_by_line_from_the_corner():
    base = torch.tensor([[-8.0, -4, 8, 4], [-2, -2, 2, 2]])
    anchors = grid_anchors(base, (2, 3), 16)
    assert anchors[:2].tolist() == base.tolist()
    assert anchors[2].tolist() == [8, -4, 24, 4]  # the next column
    assert anchors[6].tolist() == [-8, 12, 8, 20]  # the next line
    assert anchors[-1].tolist() == [30, 14, 34, 18]
