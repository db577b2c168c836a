"""Runs of a very small detector: they learn, stop, resume exactly, and report problems."""

from __future__ import annotations

import json
import math
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from run_results import Messages, assert_same_state, metrics

from sparsevod_core.checkpoint import load_checkpoint
from sparsevod_core.config import Config, load_config
from sparsevod_core.errors import ConfigError, DataError
from sparsevod_core.reporting import Reporter
from sparsevod_core.training.bad_batch import NonFiniteLossError
from sparsevod_core.training.run_folder import TrainingResult
from sparsevod_core.training.trainer import Trainer
from sparsevod_core.version import version

pytest_plugins = ["small_runs"]

STEPS_PER_EPOCH = 7  # 12 targets of `long`, 1 of `single` and the still image; 2 per step


@pytest.fixture(scope="session")
def uninterrupted(
    settings: Callable[..., Config], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """Uninterrupted run of two epochs."""
    path = tmp_path_factory.mktemp("runs") / "uninterrupted"
    run(settings("train.epochs=2"), path)
    return path


class Watcher(Messages):
    """Reporter that keeps messages and calls `at` after every step or every evaluated frame."""

    def __init__(self, at: Callable[[int], None] = lambda count: None, unit: str = "steps") -> None:
        super().__init__()
        self.count = 0
        self._at, self._unit = at, unit

    @contextmanager
    def progress(self, label: str, total: int | None, unit: str = "frames") -> Iterator[Watcher]:
        self._is_watched = unit == self._unit
        yield self

    def advance(self, steps: int = 1, note: str = "") -> None:
        if self._is_watched:
            self.count += steps
            self._at(self.count)


def run(
    config: Config, output: Path, *, resume: bool = False, reporter: Reporter | None = None
) -> TrainingResult:
    return Trainer(config, output, resume=resume, device="cpu", reporter=reporter).fit()


def test_a_run_leaves_settings_metrics_and_a_checkpoint(
    settings: Callable[..., Config], tmp_path: Path
) -> None:
    reporter = Messages()
    result = run(settings("train.epochs=1"), tmp_path / "run", reporter=reporter)
    assert result.steps == STEPS_PER_EPOCH
    assert result.best is None
    checkpoint = load_checkpoint(result.checkpoint)
    assert [category.name for category in checkpoint.categories] == ["square", "bar"]
    assert [category.id for category in checkpoint.categories] == [7, 3]
    assert checkpoint.config.model.num_classes == 2
    assert load_config(file=tmp_path / "run" / "config.yaml") == checkpoint.config
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    start = json.loads(lines[0])
    assert (start["kind"], start["step"], start["processes"]) == ("run", 0, 1)
    assert (start["seed"], start["settings"]) == (0, checkpoint.config.flat())
    made_on = {"version": version(), "device": "cpu", "precision": "fp32"}
    assert start.items() >= made_on.items()
    assert checkpoint.run is not None and checkpoint.run.items() >= made_on.items()
    logged = metrics(tmp_path / "run")
    assert [record["step"] for record in logged] == [1, 3, 6, 7]
    for record in logged:
        parts = record["loss_class"] + record["loss_l1"] + record["loss_giou"]
        assert record["loss"] == pytest.approx(parts, rel=1e-4)
        assert record["grad_norm"] > 0 and record["clips_per_s"] > 0
    assert logged[1]["learning_rate"] == pytest.approx(
        5e-4 * (0.01 + 0.99 * 2 / 4) * 0.5 * (1 + math.cos(math.pi * 2 / 7)), rel=1e-6
    )
    assert "14 target frames of 4 videos, 2 classes (square, bar)" in reporter.text
    assert "recipe has 8" in reporter.text and "train.learning_rate=0.000125" in reporter.text
    assert not list(tmp_path.rglob("*.partial"))


def test_a_run_overfits_one_clip(
    settings: Callable[..., Config], annotations: Path, tmp_path: Path
) -> None:
    content = json.loads(annotations.read_text())
    for image in content["images"]:
        image["is_vid_train_frame"] = image["file_name"] == "long/000010.png"
    one = annotations.with_name("one.json")
    one.write_text(json.dumps(content))
    config = settings(
        f"data.train_annotations={one}",
        "train.clips_per_gpu=1",
        "train.max_steps=40",
        "train.log_every=5",
        "train.learning_rate=4e-3",
        "data.flip=0",
    )
    run(config, tmp_path / "run")
    losses = [record["loss"] for record in metrics(tmp_path / "run")]
    assert losses[-1] < 0.5 * losses[0]


@pytest.mark.parametrize(
    ("stop_after", "workers"), [(3, 2), (STEPS_PER_EPOCH, 0)], ids=["mid-epoch", "end of epoch"]
)
def test_a_stopped_run_resumes_exactly(
    stop_after: int,
    workers: int,
    settings: Callable[..., Config],
    uninterrupted: Path,
    tmp_path: Path,
) -> None:
    config = settings("train.epochs=2", f"data.workers={workers}")

    def stop(step: int) -> None:
        if step == stop_after - 1:  # after that step; the next one ends the run
            os.kill(os.getpid(), signal.SIGTERM)

    reporter = Watcher(stop)
    with pytest.raises(SystemExit) as stopped:
        run(config, tmp_path / "stopped", reporter=reporter)
    assert stopped.value.code == 143
    training = load_checkpoint(tmp_path / "stopped" / "checkpoints" / "last.pth").training
    assert training is not None and training["position"]["step"] == stop_after
    assert f"sparsevod train --resume {tmp_path / 'stopped'}" in reporter.messages[-1]

    result = run(config, tmp_path / "stopped", resume=True)
    assert result.steps == 2 * STEPS_PER_EPOCH
    assert_same_state(uninterrupted, tmp_path / "stopped")


def test_a_crashed_run_resumes_from_its_last_checkpoint(
    settings: Callable[..., Config], uninterrupted: Path, tmp_path: Path
) -> None:
    config = settings("train.epochs=2", "train.checkpoint_every=2", "train.log_every=1")

    def die(step: int) -> None:
        if step == 5:
            raise MemoryError

    with pytest.raises(MemoryError):
        run(config, tmp_path / "stopped", reporter=Watcher(die))
    assert [record["step"] for record in metrics(tmp_path / "stopped")] == [1, 2, 3, 4, 5]
    run(config, tmp_path / "stopped", resume=True)
    assert_same_state(uninterrupted, tmp_path / "stopped")
    assert [record["step"] for record in metrics(tmp_path / "stopped", "run")] == [0, 4]
    # Step 5 was taken twice and is listed once.
    assert [record["step"] for record in metrics(tmp_path / "stopped")] == [*range(1, 15)]


def test_max_steps_ends_a_run_without_changing_its_steps(
    settings: Callable[..., Config], uninterrupted: Path, tmp_path: Path
) -> None:
    config = settings("train.epochs=2", "train.max_steps=4")
    assert run(config, tmp_path / "short").steps == 4
    longer = config.replace({"train.max_steps": None})
    assert run(longer, tmp_path / "short", resume=True).steps == 14
    assert_same_state(uninterrupted, tmp_path / "short")


def test_a_finished_run_can_be_trained_longer(
    settings: Callable[..., Config], tmp_path: Path
) -> None:
    config = settings("train.epochs=1", "train.schedule=step")
    run(config, tmp_path / "run")
    before = (tmp_path / "run" / "checkpoints" / "last.pth").read_bytes()
    reporter = Messages()
    assert run(config, tmp_path / "run", resume=True, reporter=reporter).steps == STEPS_PER_EPOCH
    assert "already finished" in reporter.messages[-1] and "--epochs" in reporter.messages[-1]
    short = config.replace({"train.max_steps": STEPS_PER_EPOCH})
    run(short, tmp_path / "run", resume=True, reporter=reporter)
    assert "--set train.max_steps=none, to train longer" in reporter.messages[-1]
    assert (tmp_path / "run" / "checkpoints" / "last.pth").read_bytes() == before

    longer = config.replace({"train.epochs": 2})
    assert run(longer, tmp_path / "run", resume=True).steps == 2 * STEPS_PER_EPOCH
    assert load_config(file=tmp_path / "run" / "config.yaml").train.epochs == 2


def test_evaluation_keeps_the_best_and_an_interrupted_one_is_repeated(
    settings: Callable[..., Config], annotations: Path, tmp_path: Path
) -> None:
    config = settings("train.epochs=2", f"data.val_annotations={annotations}", "inference.batch=8")

    def stop(frames: int) -> None:
        if frames == 40:  # an evaluation has 33: this is in the second one
            os.kill(os.getpid(), signal.SIGTERM)
            pytest.fail("the evaluation continued")

    with pytest.raises(SystemExit):
        run(config, tmp_path / "run", reporter=Watcher(stop, "frames"))
    assert [record["step"] for record in metrics(tmp_path / "run", "eval")] == [7]

    result = run(config, tmp_path / "run", resume=True)
    evaluations = metrics(tmp_path / "run", "eval")
    assert [(record["step"], record["epoch"]) for record in evaluations] == [(7, 1), (14, 2)]
    assert evaluations[0]["per_class"].keys() == {"square", "bar"}
    best = max(evaluations, key=lambda record: record["AP"])
    assert result.best == {name: best[name] for name in ("step", "AP", "AP50", "AP75")}
    assert result.checkpoint == tmp_path / "run" / "checkpoints" / "best.pth"
    assert load_checkpoint(result.checkpoint).training is None


def test_another_validation_set_does_not_compete_with_the_first(
    settings: Callable[..., Config], annotations: Path, tmp_path: Path
) -> None:
    moved, other = (annotations.with_name(f"{name}.json") for name in ("moved", "other_val"))
    content = json.loads(annotations.read_text())
    moved.write_text(annotations.read_text())
    other.write_text(json.dumps(content | {"annotations": content["annotations"][:1]}))
    config = settings("train.epochs=1", f"data.val_annotations={annotations}", "inference.batch=8")
    run(config, tmp_path / "run")
    last = tmp_path / "run" / "checkpoints" / "last.pth"
    best = load_checkpoint(last).training["position"]["best"]
    assert best["step"] == STEPS_PER_EPOCH
    for annotated, is_kept in ((moved, True), (other, False)):
        reporter = Messages()
        longer = config.replace({"data.val_annotations": str(annotated), "train.epochs": 2})
        trainer = Trainer(longer, tmp_path / "run", resume=True, device="cpu", reporter=reporter)
        assert trainer.state.best == (best if is_kept else None)
        assert ("does not count" in reporter.text) != is_kept
    trainer.fit()
    assert load_checkpoint(last).training["position"]["best"]["step"] == 2 * STEPS_PER_EPOCH


def test_a_validation_set_that_cannot_score_is_refused_at_once(
    settings: Callable[..., Config], annotations: Path, tmp_path: Path
) -> None:
    content = json.loads(annotations.read_text())
    for category in content["categories"]:
        category["name"] = category["name"].upper()
    shouted = annotations.with_name("shouted.json")
    shouted.write_text(json.dumps(content))
    with pytest.raises(DataError, match=r"shouted\.json: no class in common"):
        run(settings(f"data.val_annotations={shouted}"), tmp_path / "run")
    elsewhere = (f"data.val_annotations={annotations}", f"data.val_root={tmp_path}")
    with pytest.raises(DataError, match=str(tmp_path)):
        run(settings(*elsewhere), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_run_with_other_settings_or_data_is_not_resumed(
    settings: Callable[..., Config], annotations: Path, tmp_path: Path
) -> None:
    config = settings("train.max_steps=1")
    run(config, tmp_path / "run")
    with pytest.raises(ConfigError, match="already contains a run"):
        run(config, tmp_path / "run")
    with pytest.raises(ConfigError, match=r"cannot change train\.learning_rate"):
        run(config.replace({"train.learning_rate": 1.0}), tmp_path / "run", resume=True)
    other = annotations.with_name("other.json")
    content = json.loads(annotations.read_text())
    content["images"][0]["is_vid_train_frame"] = False
    other.write_text(json.dumps(content))
    with pytest.raises(DataError, match=r"expected 14 target frames .* got 13"):
        moved = config.replace({"data.train_annotations": str(other)})
        run(moved, tmp_path / "run", resume=True)
    content = json.loads(annotations.read_text())
    content["categories"].append({"id": 99, "name": "third"})
    other.write_text(json.dumps(content))
    with pytest.raises(DataError, match=r"expected 14 target frames and 2 classes, got 14 and 3"):
        run(moved, tmp_path / "run", resume=True)


def test_a_non_finite_loss_stops_the_run_and_reports_its_frames(
    settings: Callable[..., Config], tmp_path: Path
) -> None:
    config = settings("train.epochs=2", "train.learning_rate=1e30", "train.warmup_steps=8")
    config = config.replace({"train.warmup_start": 1e-35})  # finite at first
    with pytest.raises(NonFiniteLossError, match=r"step 3: the loss is not finite") as error:
        run(config, tmp_path / "run")
    batch = json.loads((tmp_path / "run" / "bad_batch.json").read_text())
    assert (batch["step"], batch["epoch"], batch["seed"]) == (3, 0, config.seed)
    files = [clip["files"] for clip in batch["clips"]]
    assert [len(clip) for clip in files] == [3, 3]  # the target and two supports
    assert all(clip[0] in error.value.message for clip in files)

    # The clips can be reproduced, and so can the steps that led there.
    trainer = Trainer(config, tmp_path / "run", resume=True, device="cpu")
    for clip in batch["clips"]:
        reproduced = trainer.dataset[batch["epoch"], clip["index"]]
        assert list(reproduced.files) == clip["files"]
    assert f"--resume {tmp_path / 'run'} --max-steps 3" in str(error.value.hint)
    with pytest.raises(NonFiniteLossError, match=r"step 3: the loss is not finite"):
        run(config.replace({"train.max_steps": 3}), tmp_path / "run", resume=True)
    assert json.loads((tmp_path / "run" / "bad_batch.json").read_text()) == batch


@pytest.mark.parametrize(
    "overrides",
    [
        ["train.precision=bf16"],
        ["data.supports=0"],
        ["model.tfe=off", "model.spfa=off"],
        ["model.num_proposals=1"],  # fewer than objects
        ["train.schedule=step", "train.milestones=[1]"],
    ],
    ids=" ".join,
)
def test_variants_train(
    overrides: list[str], settings: Callable[..., Config], tmp_path: Path
) -> None:
    result = run(settings("train.max_steps=2", *overrides), tmp_path / "run")
    assert all(math.isfinite(record["loss"]) for record in metrics(result.run))


def test_a_run_starts_from_another_checkpoint(
    settings: Callable[..., Config], tmp_path: Path
) -> None:
    first = run(settings("train.max_steps=1"), tmp_path / "first")
    reporter = Messages()
    trainer = Trainer(
        settings(f"train.init_from={first.checkpoint}", "model.num_stages=2"),
        tmp_path / "second",
        device="cpu",
        reporter=reporter,
    )
    saved = load_checkpoint(first.checkpoint).model
    now = trainer.detector.state_dict()
    assert all(torch.equal(now[name], value) for name, value in saved.items())
    assert any("newly initialized" in line and "stage 2" in line for line in reporter.messages)
