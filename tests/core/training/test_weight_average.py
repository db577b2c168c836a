"""Moving average of the weights: its formula, evaluation and resuming."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from run_results import metrics

from sparsevod_core.checkpoint import load_checkpoint
from sparsevod_core.config import Config, load_config
from sparsevod_core.errors import ConfigError
from sparsevod_core.inference import Predictor
from sparsevod_core.model.build import build_detector
from sparsevod_core.training.optim import WeightAverage
from sparsevod_core.training.trainer import Trainer

pytest_plugins = ["small_runs"]


def test_the_decay_grows_to_its_value(settings: Callable[..., Config]) -> None:
    detector = build_detector(settings().model)
    average = WeightAverage(detector, decay=0.5)
    one = next(detector.parameters())
    (followed,) = [
        value
        for (name, value), (_, weight) in zip(
            average.detector.named_parameters(), detector.named_parameters(), strict=True
        )
        if weight is one
    ]
    start = followed.clone()
    with torch.no_grad():
        one.fill_(1.0)
    average.update(1)  # decay 2 / 11
    expected = start * 2 / 11 + 9 / 11
    torch.testing.assert_close(followed, expected)
    with torch.no_grad():
        one.fill_(3.0)
    average.update(1000)  # decay 0.5
    torch.testing.assert_close(followed, (expected + 3) / 2)
    assert not followed.requires_grad


def test_a_decay_of_one_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"train\.ema=1\.0"):
        load_config("tiny", overrides=["train.ema=1"])


def test_the_average_is_evaluated_and_saved_and_resumes_exactly(
    settings: Callable[..., Config], annotations: Path, tmp_path: Path
) -> None:
    config = settings(
        "train.epochs=1", "train.ema=0.9", f"data.val_annotations={annotations}",
        "train.learning_rate=5e-3", "inference.batch=8",
    )  # fmt: skip
    full = Trainer(config, tmp_path / "full", device="cpu")
    result = full.fit()
    assert full.average is not None
    last = load_checkpoint(tmp_path / "full" / "checkpoints" / "last.pth")
    assert last.training is not None
    averaged, trained = full.average.detector.state_dict(), full.detector.state_dict()
    best = load_checkpoint(result.checkpoint).model
    for name, value in averaged.items():
        assert torch.equal(last.model[name], value) and torch.equal(best[name], value)
        assert torch.equal(last.training["weights"][name], trained[name])
    assert any(not torch.equal(averaged[name], value) for name, value in trained.items())
    Predictor.from_checkpoint(tmp_path / "full" / "checkpoints" / "last.pth", device="cpu")

    # Stopped after step 3 of 7 and resumed.
    part = config.replace({"train.max_steps": 3, "train.eval_every": 0})
    Trainer(part, tmp_path / "stopped", device="cpu").fit()
    Trainer(config, tmp_path / "stopped", resume=True, device="cpu").fit()
    resumed = load_checkpoint(tmp_path / "stopped" / "checkpoints" / "last.pth")
    assert resumed.training is not None
    for name, value in averaged.items():
        assert torch.equal(resumed.model[name], value)
        assert torch.equal(resumed.training["weights"][name], trained[name])
    (expected,) = metrics(tmp_path / "full", "eval")
    (evaluation,) = metrics(tmp_path / "stopped", "eval")
    assert {**evaluation, "seconds": expected["seconds"]} == expected
