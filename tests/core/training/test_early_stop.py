"""Early stopping when evaluations no longer improve."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from run_results import Messages, metrics

from sparsevod_core.config import Config
from sparsevod_core.errors import ConfigError
from sparsevod_core.training import trainer as trainer_module
from sparsevod_core.training.trainer import Trainer

pytest_plugins = ["small_runs"]

STEPS_PER_EPOCH = 7


@pytest.fixture
def aps(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """AP of the next evaluations."""
    upcoming: list[float] = []

    def validate(*_: Any) -> dict[str, Any]:
        ap = upcoming.pop(0)
        return {"AP": ap, "AP50": ap, "AP75": ap, "per_class": {}, "seconds": 0.0}

    monkeypatch.setattr(trainer_module, "validate", validate)
    return upcoming


def test_patience_counts_evaluations_without_a_better_ap(
    settings: Callable[..., Config], annotations: Path, aps: list[float], tmp_path: Path
) -> None:
    config = settings("train.epochs=9", "train.patience=2", f"data.val_annotations={annotations}")
    aps += [0.1, 0.0, 0.3, 0.3]  # an equal AP is not better
    part = config.replace({"train.epochs": 4})  # training 3 of 9 epochs would be the same run
    reporter = Messages()
    Trainer(part, tmp_path / "run", device="cpu", reporter=reporter).fit()
    assert aps == [] and "stopped early" not in reporter.text

    aps += [0.2, 0.9]  # 0.2 is the second since the best, counted across the resume; 0.9 is unused
    result = Trainer(config, tmp_path / "run", resume=True, device="cpu", reporter=reporter).fit()
    assert result.steps == 5 * STEPS_PER_EPOCH
    assert result.best is not None and result.best["step"] == 3 * STEPS_PER_EPOCH
    assert aps == [0.9]
    assert "stopped early: 2 evaluation(s) without a better AP" in reporter.messages[-1]

    reporter.messages.clear()
    Trainer(config, tmp_path / "run", resume=True, device="cpu", reporter=reporter).fit()
    (message,) = reporter.messages
    assert "already finished" in message and "train.patience=0" in message

    aps[:] = [0.0] * 9
    without_patience = config.replace({"train.patience": 0, "train.epochs": 6})
    assert Trainer(without_patience, tmp_path / "run", resume=True, device="cpu").fit().steps == 42
    assert [r["epoch"] for r in metrics(tmp_path / "run", "eval")] == [1, 2, 3, 4, 5, 6]


def test_patience_needs_evaluations(settings: Callable[..., Config], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"train\.patience=2 counts evaluations"):
        settings("train.patience=2", "train.eval_every=0")
    with pytest.raises(ConfigError, match="no validation set to evaluate on") as error:
        Trainer(settings("train.patience=2"), tmp_path / "run", device="cpu")
    assert "--val" in str(error.value.hint)
