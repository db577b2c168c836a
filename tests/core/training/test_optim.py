"""The learning rate at every step, and what the optimiser is given."""

from __future__ import annotations

import pytest
import torch

from sparsevod_core.config import TrainConfig
from sparsevod_core.training.optim import build_optimizer, learning_rate, set_learning_rate

RECIPE = TrainConfig()


def rate(step: int, config: TrainConfig = RECIPE, steps_per_epoch: int = 1000) -> float:
    total = config.epochs * steps_per_epoch
    return learning_rate(step, config, steps_per_epoch=steps_per_epoch, total_steps=total)


def test_warm_up_is_linear_from_its_start() -> None:
    assert rate(0) == pytest.approx(0.01 * 2.5e-5)
    assert rate(500) == pytest.approx((0.01 + 0.99 / 2) * 2.5e-5)
    assert rate(1000) == pytest.approx(2.5e-5)


def test_step_schedule_drops_tenfold_after_epochs_8_and_11() -> None:
    assert rate(8000 - 1) == pytest.approx(2.5e-5)
    assert rate(8000) == pytest.approx(2.5e-6)
    assert rate(11000 - 1) == pytest.approx(2.5e-6)
    assert rate(11000) == pytest.approx(2.5e-7)
    assert rate(99000) == pytest.approx(2.5e-7)


def test_cosine_falls_to_zero_at_the_last_step() -> None:
    config = TrainConfig(schedule="cosine", warmup_steps=0, learning_rate=1.0, epochs=1)
    rates = [rate(step, config, 10) for step in range(11)]
    assert rates[0] == 1.0
    assert rates[5] == pytest.approx(0.5)
    assert rates[10] == pytest.approx(0.0)
    assert rates == sorted(rates, reverse=True)
    assert rate(25, config, 10) == pytest.approx(0.0)


def test_warm_up_longer_than_the_run_is_fine() -> None:
    config = TrainConfig(schedule="cosine", warmup_steps=1000, epochs=1)
    assert all(0 < rate(step, config, 10) < config.learning_rate for step in range(10))


def test_one_rate_and_one_decay_for_all_parameters() -> None:
    optimizer = build_optimizer(two_parts(), RECIPE)
    set_learning_rate(optimizer, 0.5)
    (group,) = optimizer.param_groups
    assert (group["lr"], group["weight_decay"], len(group["params"])) == (0.5, 1e-4, 3)


def test_the_backbone_can_have_a_rate_of_its_own_and_the_fpn_has_not() -> None:
    detector = two_parts()
    optimizer = build_optimizer(detector, TrainConfig(backbone_rate=0.1))
    set_learning_rate(optimizer, 0.5)
    rates = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
    assert {name: rates[id(p)] for name, p in detector.named_parameters() if id(p) in rates} == {
        "backbone.layer.weight": pytest.approx(0.05),
        "backbone.fpn.weight": 0.5,
        "head.weight": 0.5,
    }


def two_parts() -> torch.nn.Module:
    """A backbone with one trained and one frozen layer and an FPN, and a head."""

    def layer() -> torch.nn.Linear:
        return torch.nn.Linear(2, 2, bias=False)

    backbone = torch.nn.ModuleDict(
        {"stem": layer().requires_grad_(False), "layer": layer(), "fpn": layer()}
    )
    return torch.nn.ModuleDict({"backbone": backbone, "head": layer()})
