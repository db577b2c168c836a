"""Real runs of a very small detector: they learn, stop, go on exactly, and say what is wrong."""

from __future__ import annotations

import json
import math
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from sparsevod_core.checkpoint import load_checkpoint
from sparsevod_core.config import Config, load_config
from sparsevod_core.errors import ConfigError, DataError
from sparsevod_core.training.bad_batch import NonFiniteLossError
from sparsevod_core.training.run_folder import TrainingResult
from sparsevod_core.training.trainer import Trainer

pytest_plugins = ["small_runs"]

STEPS_PER_EPOCH = 7  # 12 targets of `long`, 1 of `single` and the still image, 2 a step


@pytest.fixture(scope="session")
def whole(settings: Callable[..., Config], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two epochs that nothing interrupted."""
    path = tmp_path_factory.mktemp("runs") / "whole"
    run(settings("train.epochs=2"), path)
    return path


class Talk:
    """Keeps what is said and calls `at` after every step, or every frame that is evaluated."""

    def __init__(self, at: Callable[[int], None] = lambda step: None, unit: str = "steps") -> None:
        self.said: list[str] = []
        self.step = 0
        self._at, self._unit = at, unit

    @contextmanager
    def progress(self, label: str, total: int | None, unit: str = "frames") -> Iterator[Talk]:
        self._is_watched = unit == self._unit
        yield self

    def advance(self, steps: int = 1, note: str = "") -> None:
        if self._is_watched:
            self.step += steps
            self._at(self.step)

    def message(self, text: str) -> None:
        self.said.append(text)

    def warning(self, text: str) -> None:
        self.said.append(f"warning: {text}")


def run(
    config: Config, output: Path, *, resume: bool = False, talk: Talk | None = None
) -> TrainingResult:
    return Trainer(config, output, resume=resume, device="cpu", reporter=talk).fit()


def lines(output: Path, kind: str = "train") -> list[dict[str, Any]]:
    records = map(json.loads, (output / "metrics.jsonl").read_text().splitlines())
    return [record for record in records if record["kind"] == kind]


def assert_same_state(one: Path, other: Path) -> None:
    """Weights and optimiser state of two runs, bit for bit."""
    a, b = (load_checkpoint(path / "checkpoints" / "last.pth") for path in (one, other))
    assert a.model.keys() == b.model.keys()
    assert not [name for name, value in a.model.items() if not torch.equal(value, b.model[name])]
    assert a.training is not None and b.training is not None
    assert a.training["position"]["step"] == b.training["position"]["step"]
    for key, state in a.training["optimizer"]["state"].items():
        for name, value in state.items():
            assert torch.equal(value, b.training["optimizer"]["state"][key][name])


def test_a_run_leaves_settings_metrics_and_a_checkpoint(
    settings: Callable[..., Config], tmp_path: Path
) -> None:
    talk = Talk()
    result = run(settings("train.epochs=1"), tmp_path / "run", talk=talk)
    assert result.steps == STEPS_PER_EPOCH
    assert result.best is None
    checkpoint = load_checkpoint(result.checkpoint)
    assert [category.name for category in checkpoint.categories] == ["square", "bar"]
    assert [category.id for category in checkpoint.categories] == [7, 3]
    assert checkpoint.config.model.num_classes == 2
    assert load_config(file=tmp_path / "run" / "config.yaml") == checkpoint.config
    logged = lines(tmp_path / "run")
    assert [record["step"] for record in logged] == [1, 3, 6, 7]
    for record in logged:
        parts = record["loss_class"] + record["loss_l1"] + record["loss_giou"]
        assert record["loss"] == pytest.approx(parts, rel=1e-4)
        assert record["grad_norm"] > 0 and record["clips_per_s"] > 0
    assert logged[1]["learning_rate"] == pytest.approx(
        5e-4 * (0.01 + 0.99 * 2 / 4) * 0.5 * (1 + math.cos(math.pi * 2 / 7)), rel=1e-6
    )
    said = "\n".join(talk.said)
    assert "14 target frames of 4 videos, 2 classes (square, bar)" in said
    assert "recipe has 8" in said and "train.learning_rate=0.000125" in said
    assert not list(tmp_path.rglob("*.partial"))


def test_one_clip_is_learned_by_heart(
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
    losses = [record["loss"] for record in lines(tmp_path / "run")]
    assert losses[-1] < 0.5 * losses[0]


@pytest.mark.parametrize(
    ("stop_after", "workers"), [(3, 2), (STEPS_PER_EPOCH, 0)], ids=["mid-epoch", "end of epoch"]
)
def test_a_stopped_run_goes_on_exactly(
    stop_after: int, workers: int, settings: Callable[..., Config], whole: Path, tmp_path: Path
) -> None:
    config = settings("train.epochs=2", f"data.workers={workers}")

    def stop(step: int) -> None:
        if step == stop_after - 1:  # while that step is done; the next one sees it
            os.kill(os.getpid(), signal.SIGTERM)

    talk = Talk(stop)
    with pytest.raises(SystemExit) as stopped:
        run(config, tmp_path / "cut", talk=talk)
    assert stopped.value.code == 143
    position = load_checkpoint(tmp_path / "cut" / "checkpoints" / "last.pth").training
    assert position is not None and position["position"]["step"] == stop_after
    assert f"sparsevod train --resume {tmp_path / 'cut'}" in talk.said[-1]

    result = run(config, tmp_path / "cut", resume=True)
    assert result.steps == 2 * STEPS_PER_EPOCH
    assert_same_state(whole, tmp_path / "cut")


def test_a_run_that_died_goes_on_from_its_last_checkpoint(
    settings: Callable[..., Config], whole: Path, tmp_path: Path
) -> None:
    config = settings("train.epochs=2", "train.checkpoint_every=2", "train.log_every=1")

    def die(step: int) -> None:
        if step == 5:
            raise MemoryError

    with pytest.raises(MemoryError):
        run(config, tmp_path / "cut", talk=Talk(die))
    assert [record["step"] for record in lines(tmp_path / "cut")] == [1, 2, 3, 4, 5]
    run(config, tmp_path / "cut", resume=True)
    assert_same_state(whole, tmp_path / "cut")
    # Step 5 was taken twice and is there once.
    assert [record["step"] for record in lines(tmp_path / "cut")] == [*range(1, 15)]


def test_max_steps_ends_a_run_without_changing_its_steps(
    settings: Callable[..., Config], whole: Path, tmp_path: Path
) -> None:
    config = settings("train.epochs=2", "train.max_steps=4")
    assert run(config, tmp_path / "short").steps == 4
    longer = config.replace({"train.max_steps": None})
    assert run(longer, tmp_path / "short", resume=True).steps == 14
    assert_same_state(whole, tmp_path / "short")


def test_a_finished_run_says_so_and_can_be_trained_longer(
    settings: Callable[..., Config], tmp_path: Path
) -> None:
    config = settings("train.epochs=1", "train.schedule=step")
    run(config, tmp_path / "run")
    before = (tmp_path / "run" / "checkpoints" / "last.pth").read_bytes()
    talk = Talk()
    assert run(config, tmp_path / "run", resume=True, talk=talk).steps == STEPS_PER_EPOCH
    assert "already finished" in talk.said[-1] and "--epochs" in talk.said[-1]
    assert (tmp_path / "run" / "checkpoints" / "last.pth").read_bytes() == before

    longer = config.replace({"train.epochs": 2})
    assert run(longer, tmp_path / "run", resume=True).steps == 2 * STEPS_PER_EPOCH
    assert load_config(file=tmp_path / "run" / "config.yaml").train.epochs == 2


def test_evaluation_keeps_the_best_and_is_made_up_for(
    settings: Callable[..., Config], annotations: Path, tmp_path: Path
) -> None:
    config = settings("train.epochs=2", f"data.val_annotations={annotations}", "inference.batch=8")

    def stop(frames: int) -> None:
        if frames == 40:  # of 33 an evaluation: in the second one
            os.kill(os.getpid(), signal.SIGTERM)
            pytest.fail("evaluation went on")

    with pytest.raises(SystemExit):
        run(config, tmp_path / "run", talk=Talk(stop, "frames"))
    assert [record["step"] for record in lines(tmp_path / "run", "eval")] == [7]

    result = run(config, tmp_path / "run", resume=True)
    evaluations = lines(tmp_path / "run", "eval")
    assert [(record["step"], record["epoch"]) for record in evaluations] == [(7, 1), (14, 2)]
    assert evaluations[0]["per_class"].keys() == {"square", "bar"}
    best = max(evaluations, key=lambda record: record["AP"])
    assert result.best == {name: best[name] for name in ("step", "AP", "AP50", "AP75")}
    assert result.checkpoint == tmp_path / "run" / "checkpoints" / "best.pth"
    assert load_checkpoint(result.checkpoint).training is None


def test_what_would_be_another_run_is_not_resumed(
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


def test_a_loss_that_is_not_finite_stops_the_run_and_names_its_frames(
    settings: Callable[..., Config], tmp_path: Path
) -> None:
    config = settings("train.epochs=2", "train.learning_rate=1e30", "train.warmup_steps=8")
    config = config.replace({"train.warmup_start": 1e-35})  # fine at first, and then not
    with pytest.raises(NonFiniteLossError, match=r"step 3: the loss is not finite") as error:
        run(config, tmp_path / "run")
    batch = json.loads((tmp_path / "run" / "bad_batch.json").read_text())
    assert (batch["step"], batch["epoch"], batch["seed"]) == (3, 0, config.seed)
    files = [clip["files"] for clip in batch["clips"]]
    assert [len(clip) for clip in files] == [3, 3]  # the target and two supports
    assert all(clip[0] in error.value.message for clip in files)

    # The very clips can be made again, and the steps that led there be taken again.
    trainer = Trainer(config, tmp_path / "run", resume=True, device="cpu")
    for clip in batch["clips"]:
        again = trainer.dataset[batch["epoch"], clip["index"]]
        assert list(again.files) == clip["files"]
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
        ["model.num_proposals=1"],  # fewer than there are objects
        ["train.schedule=step", "train.milestones=[1]"],
    ],
    ids=" ".join,
)
def test_variants_train(
    overrides: list[str], settings: Callable[..., Config], tmp_path: Path
) -> None:
    result = run(settings("train.max_steps=2", *overrides), tmp_path / "run")
    assert all(math.isfinite(record["loss"]) for record in lines(result.run))


def test_another_checkpoint_starts_a_run(settings: Callable[..., Config], tmp_path: Path) -> None:
    first = run(settings("train.max_steps=1"), tmp_path / "first")
    talk = Talk()
    trainer = Trainer(
        settings(f"train.init_from={first.checkpoint}", "model.num_stages=2"),
        tmp_path / "second",
        device="cpu",
        reporter=talk,
    )
    saved = load_checkpoint(first.checkpoint).model
    now = trainer.detector.state_dict()
    assert all(torch.equal(now[name], value) for name, value in saved.items())
    assert any("newly initialised" in line and "stage 2" in line for line in talk.said)
