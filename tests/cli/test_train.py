"""`sparsevod train` with real processes: stopped, resumed and misused."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sparsevod_cli import app as cli

PATIENCE_S = 600  # for several processes that import torch on a busy machine

SMALL = """
model: {num_stages: 1, num_proposals: 6, channels: 16, ffn_dim: 32, dynamic_dim: 4, num_heads: 2,
  spfa_heads: 2}
data: {short_side: 64, long_side: 96, workers: 0}
train: {clips_per_gpu: 4, log_every: 1, eval_every: 1, warmup_steps: 4, learning_rate: 5.0e-4}
inference: {batch: 8}
"""
STEPS_PER_EPOCH = 4  # 14 target frames, 4 per step


@pytest.fixture(scope="module")
def annotations(image_set: Any) -> Path:
    """The shared tiny set without the video of another size: 14 target frames of 64x96."""
    content = json.loads(image_set.annotations.read_text())
    for image in content["images"]:
        if image["file_name"].startswith("narrow"):
            image["is_vid_train_frame"] = False
    path = image_set.annotations.with_name("train_cli.json")
    path.write_text(json.dumps(content))
    return path


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Empty working directory with the settings of a small run."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "small.yaml").write_text(SMALL)
    return tmp_path


def small(annotations: Path, *more: str) -> list[str]:
    base = ["train", "--annotations", str(annotations), "--config", "small.yaml"]
    return [*base, "--backbone", "tiny", "--device", "cpu", *more]


def run_here(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: str
) -> tuple[int, str, str]:
    """Return exit code, stdout and stderr of a command run in this process."""
    monkeypatch.setattr(sys, "argv", ["sparsevod", *arguments])
    with pytest.raises(SystemExit) as ended:
        cli.run()
    printed = capsys.readouterr()
    return int(ended.value.code or 0), printed.out, printed.err


@pytest.fixture
def start() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """A function that starts `sparsevod ARGUMENTS` in a new process group, ended with the test."""
    started: list[subprocess.Popen[str]] = []

    def start_command(*arguments: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-m", "sparsevod_cli", *arguments],
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        started.append(process)
        return process

    yield start_command
    for process in started:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()


def lines(run: Path, kind: str = "train") -> list[dict[str, Any]]:
    path = run / "metrics.jsonl"
    records = map(json.loads, path.read_text().splitlines()) if path.exists() else ()
    return [record for record in records if record["kind"] == kind]


def wait_for_steps(process: subprocess.Popen[str], run: Path, steps: int) -> None:
    while len(lines(run)) < steps:
        assert process.poll() is None, process.communicate()
        time.sleep(0.1)


def test_two_processes_equal_one_and_stop_together(
    annotations: Path,
    folder: Path,
    start: Callable[..., subprocess.Popen[str]],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    # Adam's first steps are close to the sign of the gradient: high rates would magnify rounding.
    shared = [f"--val={annotations}", "--epochs=1000", "--set=train.learning_rate=1e-5"]
    steps = STEPS_PER_EPOCH + 1
    both = small(annotations, *shared, "--set=train.clips_per_gpu=2", "--gpus=2", "--output=two")
    process = start(*both)
    wait_for_steps(process, folder / "two", steps)
    process.send_signal(signal.SIGTERM)  # to the launcher, which forwards it
    out, err = process.communicate(timeout=PATIENCE_S)
    assert (process.returncode, out) == (143, "")
    assert "to resume: sparsevod train --resume two --gpus 2" in err
    assert "Traceback" not in err and "Warning" not in err

    code, _, err = run_here(monkeypatch, capsys, "train", "--resume", "two", "--device", "cpu")
    assert code == 2 and "trained by 2 process(es), not 1" in err and "--gpus 2" in err

    single = small(annotations, *shared, f"--max-steps={steps}", "--output=one", "--json=one.json")
    code, out, _ = run_here(monkeypatch, capsys, *single)
    assert (code, out) == (0, "one/checkpoints/best.pth\n")
    result = json.loads((folder / "one.json").read_text())
    assert (result["schema"], result["run"], result["steps"]) == ("sparsevod.train/1", "one", steps)
    pairs = zip(lines(folder / "one"), lines(folder / "two")[:steps], strict=True)
    for one, two in pairs:
        for name in ("loss", "loss_class", "loss_l1", "loss_giou", "grad_norm"):
            assert two[name] == pytest.approx(one[name], rel=1e-4), (one["step"], name)
    one, two = (lines(folder / name, "eval")[0] for name in ("one", "two"))
    assert (two["step"], two["AP"]) == (one["step"], pytest.approx(one["AP"], abs=1e-3))


def test_ctrl_c_saves_and_resume_finds_the_last_run(
    annotations: Path,
    folder: Path,
    start: Callable[..., subprocess.Popen[str]],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    process = start(*small(annotations, "--epochs=1000", "--seed=3", "--set=data.workers=2"))
    while not list(folder.glob("runs/tiny-*")):
        assert process.poll() is None, process.communicate()
        time.sleep(0.1)
    (run,) = folder.glob("runs/tiny-*")
    wait_for_steps(process, run, 1)
    os.killpg(process.pid, signal.SIGINT)  # as from a terminal: loader processes get it too
    _, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 130
    assert f"to resume: sparsevod train --resume {run.relative_to(folder)}" in err

    steps = len(lines(run)) + 1
    code, out, err = run_here(
        monkeypatch, capsys, "train", "--resume", "--device=cpu", f"--max-steps={steps}"
    )
    assert code == 0, err
    assert out.strip() == str(run.relative_to(folder) / "checkpoints" / "last.pth")
    assert [record["step"] for record in lines(run)] == [*range(1, steps + 1)]
    assert "seed: 3" in (run / "config.yaml").read_text()


def test_a_run_that_was_killed_while_it_saved_is_resumed(
    annotations: Path,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    code, _, err = run_here(monkeypatch, capsys, *small(annotations, "--max-steps=1", "-o", "run"))
    assert code == 0, err
    previous = folder / "run" / "checkpoints" / "previous.pth"
    previous.unlink()
    previous.hardlink_to(previous.with_name("last.pth"))
    resume = ["train", "--resume", "run", "--device=cpu", "--max-steps=2"]
    code, _, err = run_here(monkeypatch, capsys, *resume)
    assert code == 0, err
    assert [record["step"] for record in lines(folder / "run")] == [1, 2]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ([], 1, "sparsevod prepare-vid ILSVRC_ROOT -o data/imagenet_vid"),
        (["--annotations", "gone.json"], 1, "gone.json: no such file of training annotations"),
        (["runs/old"], 2, "runs/old: a run folder needs --resume"),
        (["--resume"], 2, "no run in runs/ has a checkpoint"),
        (["--resume", "runs/old"], 2, "runs/old: nothing to resume"),
        (["--resume", "--backbone", "r50"], 2, "remove --system, --backbone"),
        (["--backbone", "r5"], 2, "did you mean r50?"),
        (["--set", "train.epoch=3"], 2, "did you mean train.epochs?"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_misuse_is_reported_before_anything_heavy_is_imported(
    arguments: list[str],
    code: int,
    message: str,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)  # importing it would fail
    ended, out, err = run_here(monkeypatch, capsys, "train", *arguments)
    assert (ended, out) == (code, "")
    assert err.startswith("error: ") and message in err


def test_more_gpus_than_available(
    annotations: Path,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    import torch

    available = torch.cuda.device_count()
    arguments = small(annotations, "--gpus", str(available + 2), "--device", "auto")
    code, _, err = run_here(monkeypatch, capsys, *arguments)
    assert code == 2
    assert f"--gpus {available + 2}: this machine has {available} usable GPU(s)" in err
    assert not (folder / "runs").exists()


def test_training_from_scratch_is_reported_once(
    annotations: Path,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    arguments = small(annotations, "--max-steps=1", "--backbone-weights=none", "-o", "run")
    arguments[arguments.index("tiny")] = "r50"
    code, _, err = run_here(monkeypatch, capsys, *arguments)
    assert code == 0, err
    assert err.count("model.norm=group, model.frozen_stages=0") == 1
