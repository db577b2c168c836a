"""Runs of the grid: the commands that train, evaluate, resume and pretrain."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from sparsevod_core.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from sparsevod_core.config import Config, load_config
from sparsevod_core.errors import ConfigError
from sparsevod_core.model.build import build_detector
from sparsevod_core.reporting import SilentReporter
from sparsevod_core.reproduce import grid
from sparsevod_core.reproduce.experiment import KEPT, CommandError, Experiment
from sparsevod_core.reproduce.reproduce import plan, reproduce
from sparsevod_core.structures import Category


def experiment(output: Path, *settings: str, **options: object) -> Experiment:
    options = {"run_command": lambda *words: pytest.fail(f"ran {words}"), **options}
    return Experiment(output=output, backbone="tiny", settings=settings, **options)


def preset(cell: grid.Cell) -> Config:
    return load_config("tiny", overrides=cell.settings, system=cell.system)


def test_the_full_model_is_evaluated_with_every_number_of_supports(tmp_path):
    commands: list[tuple[str, ...]] = []
    full = tmp_path / "full" / "seed-1"

    def pretend(*words: str) -> None:
        commands.append(words)
        if words[0] == "train":
            (full / "checkpoints").mkdir(parents=True, exist_ok=True)
            (full / "checkpoints" / "last.pth").touch()
        elif len(commands) == 7:  # the sixth evaluation
            raise CommandError("failed")
        else:
            file = Path(words[-1].removeprefix("--json="))
            file.write_text(json.dumps(dict.fromkeys([*KEPT, "confusion"], 1)))

    small = experiment(tmp_path, "train.epochs=2", run_command=pretend)
    run = (grid.FULL, 1, grid.support_counts(grid.tables(preset), grid.FULL))
    assert grid.support_counts(grid.tables(preset, [2, 3, 4]), grid.FULL) == []
    assert small.state(*run) == "to do"
    with pytest.raises(CommandError):
        small.run(*run)
    model = ("--system=sparsevod", "--backbone=tiny")
    new = (*model, f"--output={full}", "--seed=1", "--set=train.epochs=2")
    assert commands[0] == ("train", *new)
    counts = (0, 1, 2, 4, 10, 14)
    assert [words[2] for words in commands[1:]] == [f"--num-supports={n}" for n in counts]
    assert small.state(*run) == "begun"

    commands.clear()
    small.run(*run)
    assert commands[0] == ("train", "--resume", str(full))
    assert [words[2].partition("=")[0] for words in commands[1:]] == ["--num-supports", "--json"]
    assert small.state(*run) == "done"
    assert set(json.loads((full / "eval.json").read_text())) == set(KEPT)


def test_all_runs_start_from_one_detector_that_is_trained_once(tmp_path):
    commands: list[tuple[str, ...]] = []

    def pretend(*words: str) -> None:
        commands.append(words)
        (folder,) = (word[9:] for word in words if word.startswith("--output="))
        config = load_config("tiny", overrides=[*grid.BASELINE.settings, "model.num_classes=1"])
        weights = build_detector(config.model).state_dict()
        checkpoint = Checkpoint(config, (Category(1, "cat"),), weights, {"step": 7})
        save_checkpoint(Path(folder) / "checkpoints" / "last.pth", checkpoint)

    starts = {"baseline": 12}
    plain = experiment(tmp_path, "train.epochs=2", starts=starts, run_command=pretend)
    plain.pretrain(grid.STARTS["sparsevod"], SilentReporter())
    plain.pretrain(grid.STARTS["sparsevod"], SilentReporter())
    (command,) = commands
    assert command[-4:] == (
        "--set=train.epochs=2", "--set=train.epochs=12",
        "--set=model.tfe=off", "--set=model.spfa=off",
    )  # fmt: skip
    file = tmp_path / "pretrained.pth"
    kept = load_checkpoint(file)
    assert kept.training is None
    assert all(value.dtype == torch.float16 for value in kept.model.values())
    config = plain.config(grid.FULL, 3)
    assert (config.train.init_from, config.train.epochs) == (str(file), 2)


def test_runs_can_start_from_a_given_detector(tmp_path):
    """It is copied to the results folder, and is not replaced by another one."""
    given, output = tmp_path / "given.pth", tmp_path / "results"
    output.mkdir()
    small = experiment(output, starts={"baseline": given, "faster-rcnn": given})
    start = grid.STARTS["sparsevod"]
    with pytest.raises(ConfigError, match="no such file"):
        small.pretrain(start, SilentReporter())
    given.write_bytes(b"one")
    small.pretrain(start, SilentReporter())
    small.pretrain(start, SilentReporter())
    assert [file.name for file in output.iterdir()] == ["pretrained.pth"]
    assert small.config(grid.FULL).train.init_from == str(output / "pretrained.pth")
    small.pretrain(grid.STARTS["troi"], SilentReporter())
    config = small.config(grid.TROI)
    assert config.train.init_from == str(output / "pretrained-faster-rcnn.pth")
    assert (config.model.system, small.config(grid.MEGA).train.init_from) == ("troi", None)
    given.write_bytes(b"two")
    with pytest.raises(ConfigError, match="is another checkpoint"):
        small.pretrain(start, SilentReporter())
    assert (output / "pretrained.pth").read_bytes() == b"one"


def test_transvod_is_always_trained_in_two_stages(tmp_path):
    """Its temporal layers are added to a Deformable DETR, which has the recipe of its paper."""
    commands: list[tuple[str, ...]] = []

    def stop(*words: str) -> None:
        commands.append(words)
        raise CommandError("stopped")

    for starts in ({}, {"deformable-detr": 12}):
        small = experiment(tmp_path, "train.ema=0.9", starts=starts, run_command=stop)
        start = small.start_of(grid.TRANSVOD)
        with pytest.raises(CommandError):
            small.pretrain(start, SilentReporter())
        second = small.config(grid.TRANSVOD)
        assert (second.train.trained, second.train.epochs) == ("temporal", 3)
        assert second.train.init_from == str(tmp_path / "pretrained-deformable-detr.pth")
        assert small.start_of(grid.SELSA) is None
    stages = []
    for words in commands:
        assert words[1] == "--system=transvod"
        texts = [word.removeprefix("--set=") for word in words if word.startswith("--set=")]
        config = load_config("tiny", overrides=texts, system="transvod")
        assert not config.model.temporal and config.train.ema == 0.9
        stages.append((config.train.trained, config.train.epochs, config.train.clips_per_gpu))
    assert stages == [("all", 8, 4), ("all", 12, 8)]


def test_settings_of_the_rows_are_not_those_of_the_detector_they_start_from(tmp_path):
    commands: list[tuple[str, ...]] = []

    def stop(*words: str) -> None:
        commands.append(words)
        raise CommandError("stopped")

    small = experiment(
        Path("x"),
        "train.ema=0.9",
        row_settings=("train.epochs=2",),
        starts={"baseline": 12},
        run_command=stop,
    )
    with pytest.raises(CommandError):
        small.pretrain(grid.STARTS["sparsevod"], SilentReporter())
    texts = [word.removeprefix("--set=") for word in commands[0] if word.startswith("--set=")]
    start = load_config("tiny", overrides=[t for t in texts if t != "train.epochs=12"]).train
    rows = small.config(grid.FULL, 0).train
    assert (start.ema, start.epochs, start.init_from) == (0.9, 3, None)
    assert (rows.ema, rows.epochs, rows.init_from) == (0.9, 2, "x/pretrained.pth")


def test_runs_that_started_from_a_lost_detector_are_warned_about(tmp_path):
    class Reporter(SilentReporter):
        def warning(self, text: str) -> None:
            warnings.append(text)

    def fail(*words: str) -> None:
        raise CommandError("no data")

    warnings: list[str] = []
    small = experiment(tmp_path, starts={"baseline": 1}, run_command=fail)
    chosen = grid.tables(preset, [2])
    runs = plan(chosen, [0], ["baseline", "tfe"])
    done = small.folder(grid.BASELINE, 0)
    done.mkdir(parents=True)
    (done / "eval.json").touch()
    (done / "config.yaml").write_text(small.config(grid.BASELINE).to_yaml())
    with pytest.raises(CommandError, match="no data"):
        reproduce(small, chosen, runs, seeds=[0], about="", speed_device="cpu", reporter=Reporter())
    assert len(warnings) == 1 and warnings[0].startswith("1 runs are done, but ")


def test_a_new_training_drops_evaluations_of_an_earlier_model(tmp_path):
    def stop(*words: str) -> None:
        raise CommandError("stopped")

    small = experiment(tmp_path, run_command=stop)
    folder = small.folder(grid.FULL, 0)
    (folder / "checkpoints").mkdir(parents=True)
    old = folder / "eval_supports_0.json"
    old.touch()
    (folder / "checkpoints" / "last.pth").touch()
    with pytest.raises(CommandError):
        small.run(grid.FULL, 0, [0])
    assert old.exists()  # of the checkpoint that is there
    (folder / "checkpoints" / "last.pth").unlink()
    with pytest.raises(CommandError):
        small.run(grid.FULL, 0, [0])
    assert not old.exists()


def test_an_unknown_model_is_refused():
    with pytest.raises(ConfigError, match="--only odd: expected some of baseline, tfe"):
        plan(grid.tables(preset), [0], ["tfe", "odd"])
