"""Deformable attention: what a query reads, and where it looks before training."""

from __future__ import annotations

import pytest
import torch

from sparsevod_core.model.transvod.deformable import DeformableAttention, sample
from sparsevod_core.model.transvod.image_map import ImageMap

MAP_SIZE = (2, 4)


def read(x: float, y: float) -> float:
    """Read one location of a map whose values are 1, 2, 3, 4 / 5, 6, 7, 8."""
    values = torch.arange(1.0, 9).view(1, 8, 1)
    location = torch.tensor([x, y]).view(1, 1, 1, 1, 2)
    return sample(values, MAP_SIZE, location, torch.ones(1, 1, 1, 1)).item()


def test_the_center_of_a_position_gives_its_value() -> None:
    assert read(2.5 / 4, 1.5 / 2) == pytest.approx(7)


def test_values_between_positions_are_interpolated() -> None:
    assert read(2 / 4, 1.5 / 2) == pytest.approx(6.5)
    assert read(2 / 4, 1 / 2) == pytest.approx((2 + 3 + 6 + 7) / 4)


def test_the_map_ends_with_zeros() -> None:
    assert read(0, 0.5 / 2) == pytest.approx(0.5)
    assert read(-1, 0.5) == 0


def test_points_are_summed_with_their_weights_and_heads_stay_apart() -> None:
    values = torch.stack([torch.arange(1.0, 9), torch.arange(10.0, 90, 10)], dim=-1)[None]
    centers = torch.tensor([[0.5 / 4, 0.25], [3.5 / 4, 0.75]])  # values 1 and 8
    locations = torch.stack([centers, centers.flip(0)])[None, None]  # [1, 1, heads, points, 2]
    weights = torch.tensor([[0.75, 0.25], [0.5, 0.5]])[None, None]
    result = sample(values, MAP_SIZE, locations, weights)
    torch.testing.assert_close(result, torch.tensor([[[2.75, 45.0]]]))


def test_heads_look_in_all_directions_before_training() -> None:
    attention = DeformableAttention(channels=16, num_heads=8, num_points=3)
    offsets = attention.sampling_offsets(torch.randn(1, 16)).view(8, 3, 2)
    directions = [(1, 0), (1, 1), (0, 1), (-1, 1), (-1, 0), (-1, -1), (0, -1), (1, -1)]
    expected = torch.tensor(directions)[:, None] * torch.tensor([1, 2, 3])[:, None]
    torch.testing.assert_close(offsets, expected.float(), atol=1e-5, rtol=0)


@pytest.mark.parametrize("box", [False, True])
def test_offsets_are_in_positions_or_in_half_boxes(box: bool) -> None:
    attention = DeformableAttention(channels=4, num_heads=1, num_points=2)
    torch.nn.init.constant_(attention.sampling_offsets.bias, 0.5)
    for layer in (attention.values, attention.output):
        torch.nn.init.eye_(layer.weight)
    seen = torch.arange(1.0, 9).view(1, 8, 1).expand(-1, -1, 4)
    image_map = ImageMap(seen, torch.ones(1, *MAP_SIZE, dtype=torch.bool))
    point = [1 / 4, 0.5 / 2]
    # 0.5 positions right and below, or 0.5 / 2 points of half the box: the same here.
    references = torch.tensor([[[*point, 4 / 4, 4 / 2] if box else point]])
    result = attention(torch.randn(1, 1, 4), references, image_map, None)
    torch.testing.assert_close(result, torch.full((1, 1, 4), (2 + 6) / 2))
