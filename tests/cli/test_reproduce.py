"""`sparsevod reproduce`: the entire grid on a small set, and how it resumes."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer

from sparsevod_cli import child_process
from sparsevod_cli.app import app
from sparsevod_core.errors import ConfigError
from sparsevod_core.reproduce.experiment import CommandError

REPOSITORY = Path(__file__).parents[2]
REPRODUCE = typer.main.get_command(app).commands["reproduce"]


def test_documented_commands_parse() -> None:
    card = REPOSITORY / "sparsevod_core" / "weights" / "MODEL_CARD.md"
    pages = sorted((REPOSITORY / "docs").glob("*.md"))
    texts = [REPRODUCE.help, *(file.read_text() for file in [*pages, card])]
    shown = [
        shlex.split(line)[2:]
        for text in texts
        for line in text.replace("\\\n", " ").replace("Example: ", "").splitlines()
        if line.strip().startswith("sparsevod reproduce -")
    ]
    assert len(shown) >= 6
    for words in shown:
        context = REPRODUCE.make_context("reproduce", words)
        assert context.params["backbone"] in ("tiny", "lite0", "r50")


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        ("--tables 2,x", "--tables 2,x: expected numbers"),
        ("--tables 7", "table 7: expected some of 1, 2, 3, 4, 5"),
        ("--only odd", "--only odd: expected some of baseline"),
        ("--pretrain 1 --pretrained a.pth", "give one"),
        ("--pretrain 0", "--pretrain 0: expected a number of epochs"),
        ("--pretrain odd=3", "--pretrain odd=3: expected a number of epochs"),
    ],
)
def test_wrong_options_are_named(words: str, problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        REPRODUCE.main(["--dry-run", *words.split()], standalone_mode=False)


def test_options_are_passed_to_the_core(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[Any, ...]] = []

    def reproduce(*arguments: Any, **_: Any) -> list[str]:
        calls.append(arguments)
        return ["tfe, seed 3"]

    monkeypatch.setattr("sparsevod_core.reproduce.reproduce.reproduce", reproduce)
    words = "--backbone tiny --annotations a.json --root a --val b.json --val-root b --pretrain 12"
    more = "--set train.ema=0.9 --set-rows train.epochs=2 --output x --gpus 2 --seeds 3 --tables 2"
    with pytest.raises(CommandError, match="failed: tfe, seed 3"):
        REPRODUCE.main([*words.split(), *more.split()], standalone_mode=False)
    ((experiment, chosen, runs),) = calls
    assert (experiment.settings, experiment.row_settings) == (
        ("train.ema=0.9",),
        ("train.epochs=2",),
    )
    rows = experiment.config(runs[0].cell, 0).train
    assert (rows.ema, rows.epochs, rows.init_from) == (0.9, 2, "x/pretrained.pth")
    assert experiment.train_data == (
        *("--annotations=a.json", "--root=a"),
        "--set=data.val_annotations=none",
    )
    assert experiment.eval_data == ("--annotations=b.json", "--root=b")
    assert experiment.machine == ("--gpus=2", "--device=auto") and not experiment.chooses_best
    assert [table.number for table in chosen] == [2] and {run.seed for run in runs} == {3}
    with pytest.raises(CommandError):
        REPRODUCE.main(["--choose-by", "c.json", "--choose-root", "c"], standalone_mode=False)
    experiment = calls[1][0]
    assert experiment.train_data == ("--val=c.json", "--val-root=c") and experiment.chooses_best


def test_every_family_of_detectors_can_have_its_own_start(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[Any, ...]] = []
    monkeypatch.setattr(
        "sparsevod_core.reproduce.reproduce.reproduce", lambda *args, **_: calls.append(args)
    )
    words = "--backbone tiny --tables 1 --seeds 0 --output x --pretrain 12 "
    words += "--pretrain deformable-detr=40 --pretrained faster-rcnn=a=b.pth"
    REPRODUCE.main(words.split(), standalone_mode=False)
    ((experiment, chosen, runs),) = calls
    assert experiment.starts == {
        "baseline": 12,
        "faster-rcnn": Path("a=b.pth"),
        "faster-rcnn-c4": 12,
        "deformable-detr": 40,
    }
    assert [(table.number, table.figure) for table in chosen] == [(1, None), (1, 5)]
    starts = {run.cell.name: experiment.config(run.cell).train.init_from for run in runs}
    assert starts == {
        **dict.fromkeys(("baseline", "full"), "x/pretrained.pth"),
        **dict.fromkeys(
            ("faster-rcnn", "fgfa", "selsa", "troi", "mamba"), "x/pretrained-faster-rcnn.pth"
        ),
        **dict.fromkeys(("faster-rcnn-c4", "mega"), "x/pretrained-faster-rcnn-c4.pth"),
        "transvod": "x/pretrained-deformable-detr.pth",
    }
    supports = {run.cell.name: list(run.supports) for run in runs if run.supports}
    assert supports == {"full": [2, 14], "troi": [2, 6]}


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A Python file that runs in place of the `sparsevod` command."""
    package = tmp_path / "sparsevod_cli"
    package.mkdir()
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return package / "__main__.py"


def test_a_command_that_fails_is_named(stand_in: Path, capfd: pytest.CaptureFixture[str]) -> None:
    stand_in.write_text("print('printed')\nraise SystemExit(3)")
    with pytest.raises(CommandError, match="sparsevod eval failed with exit code 3"):
        child_process.run_command("eval", "a b.pth")
    out, err = capfd.readouterr()
    assert (out, err) == ("", "$ sparsevod eval 'a b.pth'\nprinted\n")


def test_a_signal_stops_the_command_and_the_grid(
    stand_in: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    stand_in.write_text(
        "import os, signal\n"
        "signal.signal(signal.SIGTERM, lambda *_: (print('saved'), exit(143)))\n"
        "os.kill(os.getppid(), signal.SIGTERM)\n"
        "signal.pause()"
    )
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit) as stopped:
        child_process.run_command("train")
    assert stopped.value.code == 143 and signal.getsignal(signal.SIGTERM) is before
    assert capfd.readouterr().err.splitlines()[1:] == [
        "saved",
        "stopped; run the same command again to resume",
    ]
    stand_in.write_text("raise SystemExit(130)")  # Ctrl-C that only the command received
    with pytest.raises(KeyboardInterrupt):
        child_process.run_command("train")


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
def test_the_grid_is_trained_and_finished_runs_are_kept(small_set):
    options = (
        f"--annotations {small_set / 'train.json'} --val {small_set / 'val.json'} --device cpu "
        "--backbone tiny --seeds 3 --tables 2,5 --only baseline,tfe --set train.max_steps=2 "
        "--set data.short_side=32 --set data.long_side=48 --set model.num_stages=2 "
        "--set data.workers=0"
    )

    def reproduce(*more: str) -> tuple[str, list[str]]:
        """Return what it prints, and the commands that it ran."""
        finished = subprocess.run(
            [sys.executable, "-m", "sparsevod_cli", "reproduce", *options.split(), *more],
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
    assert sum(path.stat().st_size for path in small_files) < 15_000
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
    assert commands == ["train", "eval"]  # training finds that it is finished
    after = {path: path.stat().st_mtime_ns for path in before}
    assert [path for path in before if after[path] != before[path]] == [baseline / "eval.json"]

    for path in results.rglob("checkpoints/*.pth"):  # as in a clone of a repository
        path.unlink()
    (results / "tables.md").unlink()
    assert reproduce() == ("results/tables.md\n", [])
    assert (results / "tables.md").exists()
