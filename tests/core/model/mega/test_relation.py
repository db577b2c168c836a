"""Relation module: attention and geometry by hand, chunks, and padding."""

from __future__ import annotations

import math

import pytest
import torch

from sparsevod_core.model.mega import geometry
from sparsevod_core.model.mega.geometry import CHANNELS, GeometryWeight
from sparsevod_core.model.mega.proposal_features import ProposalFeatures
from sparsevod_core.model.mega.relation import RelationModule


def proposals(count: int, seed: int, channels: int = 8) -> ProposalFeatures:
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(2, count, channels, generator=generator, dtype=torch.float64)
    corners = 100 * torch.rand(2, count, 4, generator=generator, dtype=torch.float64)
    boxes = torch.cat([corners[..., :2], corners[..., :2] + 1 + corners[..., 2:]], dim=-1)
    return ProposalFeatures(features, boxes, torch.ones(2, count, dtype=torch.bool))


def relation_module(*, with_geometry: bool) -> RelationModule:
    torch.manual_seed(0)
    module = RelationModule(channels=8, num_heads=2, with_geometry=with_geometry).double()
    torch.nn.init.normal_(module.key_bias)
    return module


def test_geometry_by_hand():
    boxes = torch.tensor([[[10.0, 10, 30, 50]]], dtype=torch.float64)  # center (20, 30), 20 × 40
    others = torch.tensor([[[40.0, 20, 80, 40]]], dtype=torch.float64)  # center (60, 30), 40 × 20
    numbers = [math.log(2 + 1e-3), math.log(1e-3), math.log(0.5), math.log(2)]
    angles = [[100 * x / 1000 ** (k / 8) for k in range(8)] for x in numbers]
    embedding = torch.tensor(
        [wave(angle) for row in angles for wave in (math.sin, math.cos) for angle in row],
        dtype=torch.float64,
    )
    geometry = GeometryWeight(num_heads=CHANNELS).double()
    weight, bias = geometry.weight.weight, geometry.weight.bias
    expected = ((embedding @ weight.T + bias).clamp(min=0) + 1e-6).log()
    torch.testing.assert_close(geometry(boxes, others)[0, :, 0, 0], expected)


@pytest.mark.parametrize("with_geometry", [False, True])
def test_attention_by_hand(with_geometry):
    module = relation_module(with_geometry=with_geometry)
    queries, others = proposals(3, seed=1), proposals(5, seed=2)
    ours = module(queries, module.project(others))
    q, k = module.query(queries.features)[0], module.key(others.features)[0]
    for head, part in enumerate((slice(0, 4), slice(4, 8))):
        logits = (q[:, part] + module.key_bias[part]) @ k[:, part].T / 4**0.5
        if with_geometry:
            logits = logits + module.geometry(queries.boxes_xyxy, others.boxes_xyxy)[0, head]
        # Average first, then project: as in the papers.
        average = logits.softmax(-1) @ others.features[0]
        expected = average @ module.value.weight[part].T + module.value.bias[part]
        torch.testing.assert_close(ours[0, :, part], expected)


def test_filled_up_rows_are_no_keys():
    for with_geometry in (False, True):
        module = relation_module(with_geometry=with_geometry)
        queries, others = proposals(3, seed=1), proposals(7, seed=2)
        others.is_valid[:, 5:] = False
        others.boxes_xyxy[:, 5:] = 0
        real = ProposalFeatures(*(tensor[:, :5] for tensor in others.tensors))
        ours = module(queries, module.project(others))
        torch.testing.assert_close(ours, module(queries, module.project(real)))


def test_no_key_and_zero_boxes_give_finite_results_and_gradients():
    module = relation_module(with_geometry=True)
    queries, others = proposals(3, seed=1), proposals(4, seed=2)
    others.is_valid[:] = False
    others.boxes_xyxy[:] = 0
    queries.boxes_xyxy[:, -1] = 0
    related = module(queries, module.project(others))
    related.sum().backward()
    assert related.isfinite().all()
    assert all(parameter.grad.isfinite().all() for parameter in module.parameters())


def test_geometry_in_chunks_is_the_same(monkeypatch):
    weight = GeometryWeight(num_heads=3).double()
    boxes, others = proposals(9, seed=1).boxes_xyxy, proposals(5, seed=2).boxes_xyxy
    whole = weight(boxes, others)
    monkeypatch.setattr(geometry, "_MOST_ANGLES", 2 * 2 * 5 * 2 * geometry.WAVES)
    torch.testing.assert_close(weight(boxes, others), whole)
    assert whole.shape == (2, 3, 9, 5)
