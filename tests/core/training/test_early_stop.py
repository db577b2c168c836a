"""Early stopping when evaluations no longer improve."""

from __future__ import annotations

import json
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
def aps(monkeypatch: pytest.MonkeyPatch) -> list[float | None]:
    """AP of the next evaluations."""
    upcoming: list[float | None] = []

    def validate(*_: Any) -> dict[str, Any]:
        ap = upcoming.pop(0)
        return {"AP": ap, "AP50": ap, "AP75": ap, "per_class": {}, "seconds": 0.0}

    monkeypatch.setattr(trainer_module, "validate", validate)
    return upcoming


def test_patience_counts_evaluations_without_a_better_ap(
    settings: Callable[..., Config], annotations: Path, aps: list[float | None], tmp_path: Path
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
    assert "stopped early: 2 evaluation(s) without a better AP" in reporter.messages[-2]
    assert "checkpoint to use" in reporter.messages[-1] and "best.pth" in reporter.messages[-1]
    assert result.chosen_by == "AP"

    reporter.messages.clear()
    Trainer(config, tmp_path / "run", resume=True, device="cpu", reporter=reporter).fit()
    (message,) = reporter.messages
    assert "already finished" in message and "train.patience=0" in message

    aps[:] = [0.0] * 9
    without_patience = config.replace({"train.patience": 0, "train.epochs": 6})
    assert Trainer(without_patience, tmp_path / "run", resume=True, device="cpu").fit().steps == 42
    assert [r["epoch"] for r in metrics(tmp_path / "run", "eval")] == [1, 2, 3, 4, 5, 6]


def test_an_undefined_ap_is_neither_better_nor_worse(
    settings: Callable[..., Config], annotations: Path, aps: list[float | None], tmp_path: Path
) -> None:
    config = settings("train.epochs=4", "train.patience=1", f"data.val_annotations={annotations}")
    aps += [None, None, 0.0, None]
    result = Trainer(config, tmp_path / "run", device="cpu").fit()
    assert result.steps == 4 * STEPS_PER_EPOCH
    assert result.best is not None and result.best["step"] == 3 * STEPS_PER_EPOCH


@pytest.mark.parametrize("crowds", [False, True])
def test_validation_without_boxes_has_no_ap_and_no_best_checkpoint(
    settings: Callable[..., Config], annotations: Path, tmp_path: Path, crowds: bool
) -> None:
    content = json.loads(annotations.read_text())
    content["info"] = {"root": str(annotations.parent)}
    boxes = [box | {"iscrowd": 1} for box in content["annotations"]]
    content["annotations"] = boxes if crowds else []
    (tmp_path / "val.json").write_text(json.dumps(content))
    given = ("train.patience=1", "train.epochs=2", f"data.val_annotations={tmp_path / 'val.json'}")
    reporter = Messages()
    result = Trainer(settings(*given), tmp_path / "run", device="cpu", reporter=reporter).fit()
    assert result.steps == 2 * STEPS_PER_EPOCH
    assert (result.best, result.chosen_by) == (None, "last step")
    assert result.checkpoint.name == "last.pth" and result.checkpoint.is_file()
    assert not (tmp_path / "run" / "checkpoints" / "best.pth").exists()
    assert {record["AP"] for record in metrics(tmp_path / "run", "eval")} == {None}
    assert "AP is undefined and last.pth is the result; train.patience=1 has no" in reporter.text
    assert f"{len(boxes)} crowd boxes" in reporter.text or not crowds
    assert "(the last step; no evaluation has an AP)" in reporter.messages[-1]


def test_patience_needs_evaluations(settings: Callable[..., Config], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"train\.patience=2 counts evaluations"):
        settings("train.patience=2", "train.eval_every=0")
    with pytest.raises(ConfigError, match="no validation set to evaluate on") as error:
        Trainer(settings("train.patience=2"), tmp_path / "run", device="cpu")
    assert "--val" in str(error.value.hint)
