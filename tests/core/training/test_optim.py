"""Parameter groups of the optimizer."""

from __future__ import annotations

import pytest
import torch

from sparsevod_core.config import TrainConfig, load_config
from sparsevod_core.model.build import build_detector
from sparsevod_core.training.optim import build_optimizer, set_learning_rate


def test_one_rate_and_one_decay_for_all_parameters() -> None:
    optimizer = build_optimizer(two_parts(), TrainConfig())
    set_learning_rate(optimizer, 0.5)
    (group,) = optimizer.param_groups
    assert (group["lr"], group["weight_decay"], len(group["params"])) == (0.5, 1e-4, 3)


def test_backbone_rate_applies_to_the_backbone_without_the_fpn() -> None:
    detector = two_parts()
    optimizer = build_optimizer(detector, TrainConfig(backbone_rate=0.1))
    set_learning_rate(optimizer, 0.5)
    rates = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
    assert {name: rates[id(p)] for name, p in detector.named_parameters() if id(p) in rates} == {
        "backbone.layer.weight": pytest.approx(0.05),
        "backbone.fpn.weight": 0.5,
        "head.weight": 0.5,
    }


def test_offset_rate_applies_to_reference_points_and_sampling_offsets() -> None:
    detector = build_detector(load_config("tiny", system="transvod").model)
    optimizer = build_optimizer(detector, TrainConfig(backbone_rate=0.5, offset_rate=0.1))
    set_learning_rate(optimizer, 1.0)
    rates = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
    for name, parameter in detector.named_parameters():
        is_offset = "sampling_offsets" in name or "reference_points" in name
        expected = 0.5 if name.startswith("backbone.") else 0.1 if is_offset else 1.0
        assert rates[id(parameter)] == expected, name


def two_parts() -> torch.nn.Module:
    """Return a backbone with one frozen layer, one trained layer and an FPN, and a head."""

    def layer() -> torch.nn.Linear:
        return torch.nn.Linear(2, 2, bias=False)

    backbone = torch.nn.ModuleDict(
        {"stem": layer().requires_grad_(False), "layer": layer(), "fpn": layer()}
    )
    return torch.nn.ModuleDict({"backbone": backbone, "head": layer()})
