"""A run ends early where evaluations no longer get better."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sparsevod_core.config import Config
from sparsevod_core.errors import ConfigError
from sparsevod_core.reporting import SilentReporter
from sparsevod_core.training import trainer as trainer_module
from sparsevod_core.training.trainer import Trainer

pytest_plugins = ["small_runs"]

STEPS_PER_EPOCH = 7


class Listener(SilentReporter):
    def __init__(self) -> None:
        self.said: list[str] = []

    def message(self, text: str) -> None:
        self.said.append(text)


@pytest.fixture
def aps(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The AP of evaluations to come."""
    coming: list[float] = []

    def validate(*_: Any) -> dict[str, Any]:
        ap = coming.pop(0)
        return {"AP": ap, "AP50": ap, "AP75": ap, "per_class": {}, "seconds": 0.0}

    monkeypatch.setattr(trainer_module, "validate", validate)
    return coming


def test_patience_counts_evaluations_without_a_better_ap(
    settings: Callable[..., Config], annotations: Path, aps: list[float], tmp_path: Path
) -> None:
    config = settings("train.epochs=9", "train.patience=2", f"data.val_annotations={annotations}")
    aps += [0.1, 0.0, 0.3, 0.3]  # as good is not better
    cut = config.replace({"train.epochs": 4})  # three of nine would be the same run
    listener = Listener()
    Trainer(cut, tmp_path / "run", device="cpu", reporter=listener).fit()
    assert aps == [] and "stopped early" not in "\n".join(listener.said)

    aps += [0.2, 0.9]  # the second since the best, counted over the break; 0.9 comes never
    result = Trainer(config, tmp_path / "run", resume=True, device="cpu", reporter=listener).fit()
    assert result.steps == 5 * STEPS_PER_EPOCH
    assert result.best is not None and result.best["step"] == 3 * STEPS_PER_EPOCH
    assert aps == [0.9]
    assert "stopped early: 2 evaluation(s) without a better AP" in listener.said[-1]

    listener.said.clear()
    Trainer(config, tmp_path / "run", resume=True, device="cpu", reporter=listener).fit()
    assert len(listener.said) == 1
    assert "already finished" in listener.said[0] and "train.patience=0" in listener.said[0]

    aps[:] = [0.0] * 9
    on = config.replace({"train.patience": 0, "train.epochs": 6})
    assert Trainer(on, tmp_path / "run", resume=True, device="cpu").fit().steps == 42
    records = map(json.loads, (tmp_path / "run" / "metrics.jsonl").read_text().splitlines())
    assert [r["epoch"] for r in records if r["kind"] == "eval"] == [1, 2, 3, 4, 5, 6]


def test_patience_needs_evaluations(settings: Callable[..., Config], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"train\.patience=2 counts evaluations"):
        settings("train.patience=2", "train.eval_every=0")
    with pytest.raises(ConfigError, match="no validation set to evaluate on") as error:
        Trainer(settings("train.patience=2"), tmp_path / "run", device="cpu")
    assert "--val" in str(error.value.hint)
