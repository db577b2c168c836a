"""The ablation grid: its cells, its tables from made-up results, and the whole on a small set."""

from __future__ import annotations

import importlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from sparsevod_core.config import load_config
from sparsevod_core.errors import ConfigError, DataError

FOLDER = Path(__file__).parents[2] / "examples" / "reproduce"


@pytest.fixture
def module(monkeypatch):
    """The scripts' modules by name."""
    monkeypatch.syspath_prepend(FOLDER)
    yield importlib.import_module
    for name in ("grid", "runs", "results", "tables", "figures", "speed", "run", "hold_out"):
        sys.modules.pop(name, None)


def experiment(module, output, *settings, backbone="tiny"):
    return module("runs").Experiment(
        output=output,
        backbone=backbone,
        config_file=None,
        settings=settings,
        train_data=(),
        eval_data=(),
        machine=(),
        chooses_best=False,
    )


def make_up(folder: Path, *, ap50: float, seconds: float = 60.0, num_boxes: int = 9) -> None:
    """A finished run: AP75 and AP are a half and a quarter of AP50, also by condition and speed."""
    folder.mkdir(parents=True)
    aps = {"AP": ap50 / 4, "AP50": ap50, "AP75": ap50 / 2}
    by_iou = {f"{iou / 100:.2f}": ap50 * (100 - iou) / 50 for iou in range(50, 100, 5)}
    worse, better = ({name: ap * f for name, ap in aps.items()} for f in (0.5, 1.2))
    speeds = {"fast": worse, "medium": aps, "slow": dict.fromkeys(aps)}
    result = {
        **aps,
        "AP_by_iou": by_iou,
        "per_class": {"cat": better, "dog": dict.fromkeys(aps)},
        "motion": {"coco": speeds, "fgfa": {}},
        "degraded": worse,
        "clean": better,
        "num_frames": 4,
        "num_boxes": num_boxes,
    }
    record = {"kind": "train", "step": 40, "seconds": seconds}
    (folder / "metrics.jsonl").write_text(json.dumps(record) + "\n")
    (folder / "eval.json").write_text(json.dumps(result))


def test_rows_with_equal_settings_are_one_cell(module):
    grid = module("grid")
    chosen = grid.tables(load_config("tiny"))
    names = [cell.name for cell in grid.cells(chosen)]
    assert names == [
        *("baseline", "tfe", "spfa", "full", "stages-1", "stages-2"),
        *("average", "average-tfe", "average-spfa"),
    ]
    full = load_config("r50")
    differing = {
        cell.name: load_config("r50", overrides=cell.settings)
        for cell in grid.cells(grid.tables(full))
    }
    assert differing.pop("full") == full
    models = [config.model for config in differing.values()]
    assert all(model != full.model and models.count(model) == 1 for model in models)
    stages = [differing[name].model.num_stages for name in ("stages-1", "stages-3")]
    assert stages == [1, 3]


def test_papers_values_stand_by_their_settings(module):
    grid = module("grid")
    (stages,) = grid.tables(load_config("r50"), [3])
    values = {row.label: (row.paper.AP50, row.paper.AP75) for row in stages.rows}
    assert values == {"1 stage": (60.0, 27.2), "3 stages": (78.0, 58.3), "6 stages": (80.3, 60.1)}
    (small,) = grid.tables(load_config("tiny"), [3])
    assert [row.paper.AP50 for row in small.rows] == [60.0, None, 78.0]
    (supports,) = grid.tables(load_config("r50"), [5])
    assert [row.supports for row in supports.rows] == [0, 2, None, 14]
    assert [row.paper.fps for row in supports.rows] == [None, 17.7, 14.4, None]


def test_mean_spread_and_gain(module, tmp_path):
    for name, ap50s in {"baseline": (0.50, 0.52, 0.54), "full": (0.60, 0.61, 0.68)}.items():
        for seed, ap50 in enumerate(ap50s):
            folder = tmp_path / name / f"seed-{seed}"
            make_up(folder, ap50=ap50, seconds=60 * (seed + 1))
    make_up(tmp_path / "tfe" / "seed-1", ap50=0.55)
    grid, results, tables = (module(name) for name in ("grid", "results", "tables"))
    chosen = grid.tables(load_config("tiny"), [2])
    found = results.load_results(experiment(module, tmp_path), chosen, [0, 1, 2])
    summary = results.summarise(chosen, found, [0, 1, 2], {"full": 12.34})
    baseline, tfe, spfa, full = summary["tables"][0]["rows"]
    assert baseline["AP50"] == pytest.approx({"mean": 52, "std": 2, "min": 50, "max": 54})
    # 60, 61, 68: mean 63, squares 9 + 4 + 25 over 2
    assert full["AP50"] == pytest.approx({"mean": 63, "std": 19**0.5, "min": 60, "max": 68})
    # seed by seed 10, 9, 14: mean 11, squares 1 + 4 + 9 over 2
    assert full["gain"]["AP50"] == pytest.approx({"mean": 11, "std": 7**0.5, "min": 9, "max": 14})
    assert full["gain"]["AP75"]["mean"] == pytest.approx(5.5)
    assert (tfe["AP50"]["mean"], tfe["AP50"]["std"]) == (pytest.approx(55), None)
    assert tfe["gain"]["AP50"]["mean"] == pytest.approx(3)  # over the baseline of the same seed
    assert spfa["AP50"] is None and spfa["seeds"] == []
    assert full["groups"]["degraded"]["AP50"]["mean"] == pytest.approx(31.5)
    assert full["groups"]["slow"]["AP50"] is None  # no slow boxes
    assert full["AP_by_iou"]["0.75"]["mean"] == pytest.approx(31.5)
    assert full["train_seconds"]["mean"] == 120

    tables.write_tables(summary, "# About", tmp_path)
    text = (tmp_path / "tables.md").read_text()
    lines = {line.split(" | ")[0].strip("| "): line for line in reversed(text.splitlines())}
    assert lines["+ TFE + SPFA"] == (
        "| + TFE + SPFA | 15.8 ± 1.1 (54.7) | 63.0 ± 4.4 (80.3) | 31.5 ± 2.2 (60.1) | +11.0 ± 2.6 "
        "| +5.5 ± 1.3 | 12.3 (14.4) | 2.0 | 40 | 0, 1, 2 |"
    )
    assert lines["+ TFE"].startswith("| + TFE | 13.8 (52.1) | 55.0 (76.9) | 27.5 (57.5) | +3.0 |")
    assert "| + TFE + SPFA | 75.6 ± 5.2 | - |" in text.splitlines()  # cat, dog
    assert lines["+ SPFA"].startswith("| + SPFA | - (54.1) | - (79.1) |")
    assert json.loads((tmp_path / "tables.json").read_text())["tables"] == summary["tables"]
    figures = module("figures").write_figures(summary, tmp_path)
    assert [file.name for file in figures] == ["fig4_ap_by_iou.png", "fig4_ap_by_iou.pdf"]


def test_figure_of_speed_has_what_was_measured_and_what_the_paper_states(module, tmp_path):
    make_up(tmp_path / "baseline" / "seed-0", ap50=0.5)
    make_up(tmp_path / "full" / "seed-0", ap50=0.6)
    make_up(tmp_path / "with_2", ap50=0.58)
    with_2 = tmp_path / "full" / "seed-0" / "eval_supports_2.json"
    (tmp_path / "with_2" / "eval.json").rename(with_2)
    grid, results, figures = (module(name) for name in ("grid", "results", "figures"))
    chosen = grid.tables(load_config("tiny"), [2, 5])
    found = results.load_results(experiment(module, tmp_path), chosen, [0])
    fps = {"full": 20.0, "full, 2 supports": 25.0, "baseline": 30.0}
    summary = results.summarise(chosen, found, [0], fps)
    files = figures.write_figures(summary, tmp_path)
    assert [file.name for file in files[2:]] == ["fig5_ap50_by_fps.png", "fig5_ap50_by_fps.pdf"]
    rows = [row for row in summary["tables"][1]["rows"] if row["fps"]]
    figure = figures.draw_fig_5(rows, summary["tables"][0]["rows"][:1])
    here, there = ([line.get_xydata().tolist() for line in axes.lines] for axes in figure.axes)
    assert np.allclose(here[0], [[25, 58], [20, 60]]) and np.allclose(here[1], [[30, 50]])
    assert there == [[[17.7, 79.0], [14.4, 80.3]], [[24.3, 71.1]], [[7.5, 78.8]]]


def test_runs_that_do_not_belong_together_are_refused(module, tmp_path):
    grid, results = module("grid"), module("results")
    make_up(tmp_path / "baseline" / "seed-0", ap50=0.5)
    make_up(tmp_path / "full" / "seed-0", ap50=0.5, num_boxes=10)
    with pytest.raises(DataError, match="not scored on the same videos"):
        chosen = grid.tables(load_config("tiny"), [2])
        results.load_results(experiment(module, tmp_path), chosen, [0])
    trained = load_config("tiny", overrides=["seed=0", "model.num_classes=6"])
    (tmp_path / "full" / "seed-0" / "config.yaml").write_text(trained.to_yaml())
    experiment(module, tmp_path).require_same_settings(grid.FULL, 0)
    with pytest.raises(ConfigError, match=r"train\.epochs=3, this grid has 9"):
        experiment(module, tmp_path, "train.epochs=9").require_same_settings(grid.FULL, 0)


def test_speed_is_measured_for_every_row_once(module, tmp_path, monkeypatch):
    from sparsevod_core.reporting import SilentReporter

    speed, grid = module("speed"), module("grid")
    monkeypatch.setattr(speed, "ROUNDS", 1)
    small = experiment(module, tmp_path, "data.short_side=32", "data.long_side=32")
    chosen = [grid.Table(2, "two", grid.tables(load_config("tiny"), [2])[0].rows[:2])]
    fps = speed.frames_per_second(small, chosen, "cpu", SilentReporter())
    assert set(fps) == {"baseline", "tfe"} and min(fps.values()) > 0
    assert json.loads((tmp_path / "speed.json").read_text())["settings"]["size"] == [32, 32]
    assert speed.frames_per_second(small, chosen, "cpu", SilentReporter()) == fps


def test_full_model_is_evaluated_with_every_number_of_supports_while_it_is_there(
    module, tmp_path, monkeypatch
):
    grid, runs = module("grid"), module("runs")
    commands: list[tuple[str, ...]] = []
    full = tmp_path / "full" / "seed-1"

    def pretend(*words: str) -> None:
        commands.append(words)
        if words[0] == "train":
            (full / "checkpoints").mkdir(parents=True, exist_ok=True)
            (full / "checkpoints" / "last.pth").touch()
        elif len(commands) == 4:  # the third evaluation
            raise runs.CommandError("cut off")
        else:
            file = Path(words[-1].removeprefix("--json="))
            file.write_text(json.dumps(dict.fromkeys([*runs.KEPT, "confusion"], 1)))

    monkeypatch.setattr(runs, "sparsevod", pretend)
    small = experiment(module, tmp_path, "train.epochs=2")
    run = (grid.FULL, 1, grid.test_supports(grid.tables(load_config("tiny")), grid.FULL))
    assert grid.test_supports(grid.tables(load_config("tiny"), [2, 3, 4]), grid.FULL) == []
    assert small.state(*run) == "to do"
    with pytest.raises(runs.CommandError):
        small.run(*run)
    new = ("--backbone=tiny", f"--output={full}", "--seed=1", "--set=train.epochs=2")
    assert commands[0] == ("train", *new)
    assert [words[2] for words in commands[1:]] == [f"--supports={n}" for n in (0, 2, 14)]
    assert small.state(*run) == "begun"

    commands.clear()
    small.run(*run)
    assert commands[0] == ("train", "--resume", str(full))
    assert [words[2].partition("=")[0] for words in commands[1:]] == ["--supports", "--json"]
    assert small.state(*run) == "done"
    assert set(json.loads((full / "eval.json").read_text())) == set(runs.KEPT)


def test_all_runs_start_from_one_detector_that_is_trained_once(module, tmp_path, monkeypatch):
    from sparsevod_core.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
    from sparsevod_core.model.build import build_detector
    from sparsevod_core.structures import Category

    grid, runs, pretraining = (module(name) for name in ("grid", "runs", "pretraining"))
    commands: list[tuple[str, ...]] = []

    def pretend(*words: str) -> None:
        commands.append(words)
        (folder,) = (word[9:] for word in words if word.startswith("--output="))
        config = load_config("tiny", overrides=[*grid.BASELINE.settings, "model.num_classes=1"])
        weights = build_detector(config.model).state_dict()
        checkpoint = Checkpoint(config, (Category(1, "cat"),), weights, {"step": 7})
        save_checkpoint(Path(folder) / "checkpoints" / "last.pth", checkpoint)

    monkeypatch.setattr(runs, "sparsevod", pretend)
    plain = experiment(module, tmp_path, "train.epochs=2")
    pretraining.pretrain(plain, 12)
    pretraining.pretrain(plain, 12)
    (command,) = commands
    assert command[-4:] == (
        "--set=train.epochs=2", "--set=train.epochs=12",
        "--set=model.tfe=off", "--set=model.spfa=off",
    )  # fmt: skip
    file = tmp_path / "pretrained.pth"
    kept = load_checkpoint(file)
    assert kept.training is None
    assert all(value.dtype == torch.float16 for value in kept.model.values())
    config = pretraining.starting_from(file, plain).config(grid.FULL, 3)
    assert (config.train.init_from, config.train.epochs) == (str(file), 2)


def test_settings_of_the_rows_are_not_those_of_the_detector_they_start_from(module, monkeypatch):
    run, grid = module("run"), module("grid")
    words = "run.py --backbone tiny --annotations a.json --val b.json --pretrain 12"
    more = "--set train.ema=0.9 --set-rows train.epochs=2 --output x"
    monkeypatch.setattr(sys, "argv", [*words.split(), *more.split()])
    arguments = run.parse()
    plain = run.experiment_of(arguments)
    start = plain.config(grid.FULL, 0).train
    rows = run.rows_of(plain, arguments).config(grid.FULL, 0).train
    assert (start.ema, start.epochs, start.init_from) == (0.9, 3, None)
    assert (rows.ema, rows.epochs, rows.init_from) == (0.9, 2, "x/pretrained.pth")


def test_documented_commands_parse(module, monkeypatch):
    run = module("run")
    root = FOLDER.parents[1]
    card = root / "sparsevod_core" / "weights" / "MODEL_CARD.md"
    files = [root / "docs" / "method.md", root / "docs" / "results.md", card]
    texts = [run.__doc__, *(file.read_text() for file in files)]
    shown = [
        line.split()[1:]
        for text in texts
        for line in text.replace("\\\n", " ").splitlines()
        if line.strip().startswith("python examples/reproduce/run.py")
    ]
    assert len(shown) >= 6
    for words in shown:
        monkeypatch.setattr(sys, "argv", words)
        assert run.parse().backbone in ("tiny", "r50")


def test_videos_are_set_aside_by_their_names(image_set, tmp_path, module, monkeypatch):
    from sparsevod_core.data.records import VideoSet

    hold_out = module("hold_out")
    names = [f"video-{number}" for number in range(20)]
    aside = hold_out.held_out(names, 0.1)
    assert len(aside) == 2 and hold_out.held_out(names[::-1], 0.1) == aside
    assert hold_out.held_out(names, 0) < hold_out.held_out(names, 1) < set(names)

    monkeypatch.setattr(sys, "argv", ["", str(image_set.annotations), "-o", str(tmp_path)])
    hold_out.main()
    before = VideoSet.load(image_set.annotations)
    train, choose = (VideoSet.load(tmp_path / f"{name}.json") for name in ("train", "choose"))
    assert choose.num_videos == 1 and train.num_videos == before.num_videos - 1
    assert train.root == choose.root == before.root
    ids = [[one.image_id(frame) for frame in range(one.num_frames)] for one in (train, choose)]
    every = [before.image_id(frame) for frame in range(before.num_frames)]
    assert sorted(ids[0] + ids[1]) == sorted(every) and 900 in ids[0]  # a still image


@pytest.fixture(scope="module")
def small_set(tmp_path_factory):
    from sparsevod_core.prepare.synthetic.render import SyntheticConfig, prepare_synthetic

    folder = tmp_path_factory.mktemp("reproduce") / "set"
    small = SyntheticConfig(
        train_videos=1, val_videos=1, frames=4, val_frames=4, width=96, height=64
    )
    prepare_synthetic(folder, small)
    return folder


@pytest.mark.slow
def test_the_whole_of_it_and_what_is_done_is_not_done_again(small_set):
    options = (
        f"--annotations {small_set / 'train.json'} --val {small_set / 'val.json'} --device cpu "
        "--backbone tiny --seed 3 --tables 2 5 --only baseline tfe --set train.max_steps=2 "
        "--set data.short_side=32 --set data.long_side=48 --set model.num_stages=2 "
        "--set data.workers=0"
    )

    def reproduce(*more: str) -> tuple[str, list[str]]:
        """What it prints, and the commands that it ran."""
        finished = subprocess.run(
            [sys.executable, FOLDER / "run.py", *options.split(), *more],
            cwd=small_set.parent,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert finished.returncode == 0, finished.stdout + finished.stderr
        return finished.stdout, re.findall(r"^\$ sparsevod (\S+)", finished.stderr, re.M)

    out, commands = reproduce()
    assert out == "results/tables.md\n"
    assert commands == ["train", "eval", "train", "eval"]
    results = small_set.parent / "results"
    baseline, tfe = results / "baseline" / "seed-3", results / "tfe" / "seed-3"
    small_files = [path for path in tfe.iterdir() if path.is_file()]
    assert {path.name for path in small_files} == {"config.yaml", "metrics.jsonl", "eval.json"}
    assert sum(path.stat().st_size for path in small_files) < 10_000
    assert json.loads((tfe / "eval.json").read_text())["degraded"]["num_frames"] < 4

    before = {path: path.stat().st_mtime_ns for path in results.rglob("seed-3/eval*.json")}
    (baseline / "eval.json").unlink()
    out, _ = reproduce("--dry-run")
    assert out.splitlines()[-1] == "1 of 2 runs are done"
    assert [line.split()[:2] for line in out.splitlines()[:2]] == [
        ["begun", "baseline"],
        ["done", "tfe"],
    ]
    _, commands = reproduce()
    assert commands == ["train", "eval"]  # the former only finds that it is finished
    after = {path: path.stat().st_mtime_ns for path in before}
    assert [path for path in before if after[path] != before[path]] == [baseline / "eval.json"]

    for path in results.rglob("checkpoints/*.pth"):  # as in a clone of a repository
        path.unlink()
    (results / "tables.md").unlink()
    assert reproduce() == ("results/tables.md\n", [])
    assert (results / "tables.md").exists()
