"""TensorBoard gets the numbers in metrics.jsonl; a clear error if it is not installed."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from run_results import metrics

from sparsevod_core.config import Config
from sparsevod_core.errors import ConfigError
from sparsevod_core.training.trainer import Trainer

pytest_plugins = ["small_runs"]


def test_tensorboard_matches_metrics_jsonl_after_resuming(
    settings: Callable[..., Config], annotations: Path, tmp_path: Path
) -> None:
    pytest.importorskip("tensorboard", reason="needs the extra `tensorboard`")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    config = settings(
        "train.epochs=1",
        "train.tensorboard=true",
        f"data.val_annotations={annotations}",
        "inference.batch=8",
    )
    part = config.replace({"train.max_steps": 3, "train.eval_every": 0})
    Trainer(part, tmp_path / "run", device="cpu").fit()
    Trainer(config, tmp_path / "run", resume=True, device="cpu").fit()
    events = EventAccumulator(str(tmp_path / "run" / "tensorboard"))
    events.Reload()
    for tag, kind, name in (
        ("train/loss", "train", "loss"),
        ("train/learning_rate", "train", "learning_rate"),
        ("eval/AP50", "eval", "AP50"),
    ):
        written = [(event.step, pytest.approx(event.value)) for event in events.Scalars(tag)]
        assert written == [(r["step"], r[name]) for r in metrics(tmp_path / "run", kind)]
    assert "eval/per_class/square" in events.Tags()["scalars"]


def test_missing_tensorboard_is_reported_before_anything_is_written(
    settings: Callable[..., Config], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(ConfigError, match="TensorBoard is not installed") as error:
        Trainer(settings("train.tensorboard=true"), tmp_path / "run", device="cpu")
    assert "pip install 'sparsevod[tensorboard]'" in str(error.value.hint)
    assert not (tmp_path / "run").exists()
    Trainer(settings("train.max_steps=1"), tmp_path / "run", device="cpu").fit()
    assert not (tmp_path / "run" / "tensorboard").exists()


def test_the_setting_is_a_bool(settings: Callable[..., Config]) -> None:
    assert settings("train.tensorboard=True").train.tensorboard is True
    assert settings("train.tensorboard=false").train.tensorboard is False
    with pytest.raises(ConfigError, match=r"train\.tensorboard=maybe: expected true or false"):
        settings("train.tensorboard=maybe")
