"""Length of a run, learning rate, and what is due after which step."""

from __future__ import annotations

import pytest

from sparsevod_core.config import TrainConfig
from sparsevod_core.training.schedule import Schedule

RECIPE = TrainConfig()


def schedule(**settings: object) -> Schedule:
    return Schedule(TrainConfig(**settings), steps_per_epoch=10)  # type: ignore[arg-type]


def test_a_run_consists_of_epochs() -> None:
    plan = schedule(epochs=3)
    assert (plan.total_steps, plan.recipe_steps, plan.num_epochs) == (30, 30, 3)
    assert [plan.next_step(step) for step in (0, 9, 10, 25)] == [(0, 0), (0, 9), (1, 0), (2, 5)]
    assert [plan.epoch_of(step) for step in (1, 10, 11, 30)] == [1, 1, 2, 3]
    assert [plan.steps_left(step) for step in (0, 9, 10, 25)] == [10, 1, 10, 5]


def test_max_steps_shortens_the_run_but_not_its_learning_rate() -> None:
    short = schedule(epochs=3, max_steps=15)
    assert (short.total_steps, short.num_epochs, short.steps_left(10)) == (15, 2, 5)
    for name in ("step", "cosine"):
        short = schedule(epochs=3, max_steps=15, schedule=name)
        full = schedule(epochs=3, schedule=name)
        assert all(short.learning_rate(s) == full.learning_rate(s) for s in range(15))


def test_max_steps_may_exceed_the_epochs() -> None:
    plan = schedule(epochs=1, max_steps=25, schedule="cosine", warmup_steps=0)
    assert (plan.total_steps, plan.num_epochs, plan.steps_left(20)) == (25, 3, 5)
    assert plan.learning_rate(24) > 0


def test_evaluation_is_due_every_n_epochs_and_at_the_end() -> None:
    plan = schedule(epochs=5, max_steps=47, eval_every=2)
    assert [step for step in range(48) if plan.is_evaluation_due(step)] == [20, 40, 47]
    assert not any(schedule(eval_every=0).is_evaluation_due(step) for step in range(200))


def test_the_first_step_is_logged() -> None:
    plan = schedule(log_every=4, checkpoint_every=6)
    assert [step for step in range(1, 13) if plan.is_log_due(step)] == [1, 4, 8, 12]
    assert [step for step in range(1, 13) if plan.is_checkpoint_due(step)] == [6, 12]


def rate(step: int, config: TrainConfig = RECIPE, steps_per_epoch: int = 1000) -> float:
    return Schedule(config, steps_per_epoch).learning_rate(step)


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


def test_warm_up_may_be_longer_than_the_run() -> None:
    config = TrainConfig(schedule="cosine", warmup_steps=1000, epochs=1)
    assert all(0 < rate(step, config, 10) < config.learning_rate for step in range(10))
