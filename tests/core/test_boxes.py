"""Box conversions and overlaps, against torchvision's."""

from __future__ import annotations

import torch
import torchvision.ops as tv
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from sparsevod_core.boxes import area, cxcywh_to_xyxy, generalized_iou


def boxes(max_count: int = 8, min_side: float = 0.5) -> st.SearchStrategy[Tensor]:
    """[M, 4] `xyxy` pixel boxes, partly outside any image, in double precision."""
    corner = st.floats(min_value=-500, max_value=2000, allow_nan=False)
    side = st.floats(min_value=min_side, max_value=2000, allow_nan=False)
    box = st.tuples(corner, corner, side, side).map(
        lambda b: (b[0], b[1], b[0] + b[2], b[1] + b[3])
    )
    return st.lists(box, min_size=1, max_size=max_count).map(
        lambda rows: torch.tensor(rows, dtype=torch.float64)
    )


@given(boxes(), boxes())
def test_giou_of_all_pairs_equals_torchvisions(first: Tensor, second: Tensor) -> None:
    ours = generalized_iou(first[:, None], second[None])
    torch.testing.assert_close(ours, tv.generalized_box_iou(first, second), rtol=1e-9, atol=1e-9)


@given(boxes(), boxes())
def test_giou_is_symmetric_and_between_minus_one_and_one(first: Tensor, second: Tensor) -> None:
    pairs = generalized_iou(first[:, None], second[None])
    assert bool(((pairs > -1) & (pairs <= 1 + 1e-12)).all())
    torch.testing.assert_close(pairs, generalized_iou(second[:, None], first[None]).T)


@given(boxes())
def test_giou_of_a_box_with_itself_is_one(first: Tensor) -> None:
    torch.testing.assert_close(
        generalized_iou(first, first), torch.ones(len(first), dtype=torch.float64)
    )


@given(boxes(), st.floats(min_value=-100, max_value=100), st.floats(min_value=0.5, max_value=4))
def test_giou_does_not_change_with_place_or_scale(
    first: Tensor, shift: float, scale: float
) -> None:
    second = first.flip(0) + 3
    moved = generalized_iou((first + shift) * scale, (second + shift) * scale)
    torch.testing.assert_close(moved, generalized_iou(first, second), rtol=1e-6, atol=1e-6)


def test_giou_pairs_up_or_broadcasts() -> None:
    first = torch.tensor([[0.0, 0, 10, 10], [0, 0, 4, 4]])
    second = torch.tensor([[0.0, 0, 10, 5], [4, 4, 8, 8]])
    # Half covered: IoU .5, hull = union. Touching corners: IoU 0, hull 64, union 32.
    torch.testing.assert_close(generalized_iou(first, second), torch.tensor([0.5, -0.5]))
    assert generalized_iou(first[:, None], second[None]).shape == (2, 2)
    assert generalized_iou(torch.zeros(0, 4)[:, None], second[None]).shape == (0, 2)


def test_giou_and_its_gradient_stay_finite_for_degenerate_boxes() -> None:
    """A stage may predict a box without area, or two that coincide; training must continue."""
    odd = torch.tensor(
        [[5.0, 5, 5, 5], [0, 0, 0, 10], [10, 10, 5, 5], [-1e6, -1e6, 1e6, 1e6]], requires_grad=True
    )
    overlap = generalized_iou(odd[:, None], odd.detach()[None])
    overlap.sum().backward()
    assert bool(torch.isfinite(overlap).all())
    assert odd.grad is not None and bool(torch.isfinite(odd.grad).all())


@given(boxes())
def test_conversions_equal_torchvisions(first: Tensor) -> None:
    centered = tv.box_convert(first, "xyxy", "cxcywh")
    torch.testing.assert_close(cxcywh_to_xyxy(centered), first, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(area(first), tv.box_area(first))


def test_conversions_keep_leading_dimensions() -> None:
    stack = torch.rand(2, 3, 5, 4)
    assert cxcywh_to_xyxy(stack).shape == (2, 3, 5, 4)
    assert area(stack).shape == (2, 3, 5)
    assert cxcywh_to_xyxy(torch.zeros(0, 4)).shape == (0, 4)
