"""Mean of maps weighted by cosines, beyond the parity fixture."""

from __future__ import annotations

import pytest
import torch

from sparsevod_core.model.fgfa.map_aggregation import MapAggregation


@pytest.fixture
def aggregation():
    torch.manual_seed(0)
    return MapAggregation(channels=4)


@pytest.mark.parametrize("includes_targets", [True, False])
def test_weights_are_the_softmax_of_cosines(aggregation, includes_targets):
    target, maps = torch.randn(1, 4, 3, 5), torch.randn(1, 6, 4, 3, 5)
    everything = torch.cat([maps[0], target]) if includes_targets else maps[0]
    embedded, own = aggregation.embed(everything), aggregation.embed(target)
    dots = (embedded * own).sum(1) / (embedded.norm(dim=1) * own.norm(dim=1))
    expected = (dots.softmax(0)[:, None] * everything).sum(0)
    for size in (6, 4, 1):
        mean = aggregation(target, maps.split(size, dim=1), includes_targets=includes_targets)
        torch.testing.assert_close(mean[0], expected)


def test_the_target_alone_stays_as_it_is(aggregation):
    target = torch.randn(2, 4, 3, 5)
    torch.testing.assert_close(aggregation(target, [], includes_targets=True), target)


def test_zero_vectors_give_neither_nan_values_nor_nan_gradients(aggregation):
    target = torch.zeros(1, 4, 3, 3, requires_grad=True)
    maps = torch.cat([torch.zeros(1, 1, 4, 3, 3), torch.randn(1, 1, 4, 3, 3)], dim=1)
    maps.requires_grad_()
    mean = aggregation(target, [maps], includes_targets=True)
    torch.testing.assert_close(mean, maps[:, 1] / 3)  # every cosine is 0
    mean.square().sum().backward()
    gradients = [target.grad, maps.grad, aggregation.embed.weight.grad]
    assert all(gradient.isfinite().all() for gradient in gradients)


def test_bf16_stays_close(aggregation):
    target, maps = torch.randn(1, 4, 3, 5), torch.randn(1, 30, 4, 3, 5)
    expected = aggregation(target, maps.split(1, dim=1), includes_targets=True)
    narrow = aggregation.bfloat16()(
        target.bfloat16(), maps.bfloat16().split(1, dim=1), includes_targets=True
    )
    assert narrow.dtype == torch.bfloat16
    torch.testing.assert_close(narrow.float(), expected, atol=0.02, rtol=0.02)
