"""The moving average of the weights: its formula, and what becomes of it in a run."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

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


def test_a_decay_of_one_would_never_move() -> None:
    with pytest.raises(ConfigError, match=r"train\.ema=1\.0"):
        load_config("tiny", overrides=["train.ema=1"])


def test_the_average_is_evaluated_and_kept_and_goes_on_exactly(
    settings: Callable[..., Config], annotations: Path, tmp_path: Path
) -> None:
    config = settings(
        "train.epochs=1", "train.ema=0.9", f"data.val_annotations={annotations}",
        "train.learning_rate=5e-3", "inference.batch=8",
    )  # fmt: skip
    whole = Trainer(config, tmp_path / "whole", device="cpu")
    result = whole.fit()
    assert whole.average is not None
    last = load_checkpoint(tmp_path / "whole" / "checkpoints" / "last.pth")
    assert last.training is not None
    averaged, trained = whole.average.detector.state_dict(), whole.detector.state_dict()
    best = load_checkpoint(result.checkpoint).model
    for name, value in averaged.items():
        assert torch.equal(last.model[name], value) and torch.equal(best[name], value)
        assert torch.equal(last.training["weights"][name], trained[name])
    assert any(not torch.equal(averaged[name], value) for name, value in trained.items())
    Predictor.from_checkpoint(tmp_path / "whole" / "checkpoints" / "last.pth", device="cpu")

    # Cut off after step 3 of 7, and gone on.
    part = config.replace({"train.max_steps": 3, "train.eval_every": 0})
    Trainer(part, tmp_path / "cut", device="cpu").fit()
    Trainer(config, tmp_path / "cut", resume=True, device="cpu").fit()
    again = load_checkpoint(tmp_path / "cut" / "checkpoints" / "last.pth")
    assert again.training is not None
    for name, value in averaged.items():
        assert torch.equal(again.model[name], value)
        assert torch.equal(again.training["weights"][name], trained[name])
    evaluations = [
        {key: value for key, value in json.loads(line).items() if key != "seconds"}
        for run in ("whole", "cut")
        for line in (tmp_path / run / "metrics.jsonl").read_text().splitlines()
        if '"eval"' in line
    ]
    assert evaluations[0] == evaluations[1]
