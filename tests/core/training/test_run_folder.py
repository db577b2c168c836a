"""Files of a run, including interrupted and resumed ones."""

from __future__ import annotations

import json
import os
import shlex
from pathlib import Path

import pytest

from sparsevod_core.config import Config, load_config
from sparsevod_core.errors import ConfigError
from sparsevod_core.training.run_folder import RunFolder, new_run_path, run_to_resume


def make_run(path: Path) -> RunFolder:
    run = RunFolder(path)
    run.start(Config())
    run.last.write_bytes(b"weights")
    return run


def test_a_new_run_records_its_settings(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    run.start(Config().replace({"train.epochs": "3"}))
    assert load_config(file=run.config).train.epochs == 3
    assert run.metrics.read_text() == ""
    assert not list(run.path.rglob("*.partial"))


def test_a_run_is_never_overwritten(tmp_path: Path) -> None:
    make_run(tmp_path / "run")
    with pytest.raises(ConfigError, match="already contains a run") as error:
        RunFolder(tmp_path / "run").require_new()
    assert f"--resume {tmp_path / 'run'}" in str(error.value.hint)


def test_resuming_drops_later_lines_and_incomplete_ones(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    for step in (1, 2, 3, 4):
        run.append_metrics({"kind": "train", "step": step})
        run.append_metrics({"kind": "eval", "step": step})
    with run.metrics.open("a") as lines:
        lines.write('{"kind": "train", "st')
    run.start(Config(), step=2, evaluated_step=1)
    kept = [json.loads(line) for line in run.metrics.read_text().splitlines()]
    assert [(line["kind"], line["step"]) for line in kept] == [
        ("train", 1),
        ("eval", 1),
        ("train", 2),
    ]
    run.append_metrics({"kind": "train", "step": 3})
    assert len(run.metrics.read_text().splitlines()) == 4


@pytest.mark.parametrize("has_links", [True, False])
def test_the_previous_checkpoint_is_kept(
    has_links: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError("this file system has no hard links")

    if not has_links:
        monkeypatch.setattr(os, "link", refuse)
    run = make_run(tmp_path / "run")
    run.previous.with_name("previous.pth.0123abcd.partial").write_bytes(b"left by a killed run")
    run.keep_previous()
    partial = run.last.with_name("new")
    partial.write_bytes(b"later weights")
    partial.replace(run.last)
    assert (run.previous.read_bytes(), run.last.read_bytes()) == (b"weights", b"later weights")
    run.keep_previous()
    assert run.previous.read_bytes() == b"later weights"
    assert {path.name for path in run.last.parent.iterdir()} == {"last.pth", "previous.pth"}


def test_a_run_killed_between_both_checkpoints_leaves_nothing(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    run.keep_previous()
    run.keep_previous()  # killed before it wrote a new last.pth
    assert {path.name for path in run.last.parent.iterdir()} == {"last.pth", "previous.pth"}


def test_commands_can_be_pasted(tmp_path: Path) -> None:
    command = RunFolder("my runs/it's").resume_command(" --gpus 2")
    words = ["sparsevod", "train", "--resume", "my runs/it's", "--gpus", "2"]
    assert shlex.split(command) == words


def test_a_path_that_could_not_be_read_again_is_refused(tmp_path: Path) -> None:
    config = load_config("tiny", overrides=["data.train_root=a\udcff"])
    with pytest.raises(ConfigError, match=r"data\.train_root='a.*': expected UTF-8"):
        RunFolder(tmp_path / "run").start(config)
    assert not (tmp_path / "run").exists()


def test_runs_started_in_the_same_second_get_different_folders(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    paths = []
    for _ in range(3):
        path = new_run_path("tiny")
        path.mkdir(parents=True)
        paths.append(path)
    assert len(set(paths)) == 3
    assert all(path.parent == Path("runs") and path.name.startswith("tiny-") for path in paths)


def test_resume_without_a_folder_takes_the_run_saved_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match="no run in runs/"):
        run_to_resume(None)
    for age, name in enumerate(("newest", "older", "oldest")):
        run = make_run(Path("runs") / name)
        os.utime(run.last, (1e9 - age, 1e9 - age))
    assert run_to_resume(None).path == Path("runs/newest")


def test_resuming_a_folder_without_a_run_reports_the_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"config\.yaml is missing"):
        run_to_resume(tmp_path)
    run = make_run(tmp_path / "run")
    run.last.unlink()
    with pytest.raises(ConfigError, match=r"checkpoints/last\.pth is missing"):
        run_to_resume(run.path)


def test_damaged_metrics_do_not_stop_a_resumed_run(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    good = b'{"kind": "train", "step": 1, "loss": 2.0}\n'
    bad = [b"\x80\xff\n", b"\0\0\0\n", b"[" * 100_000 + b"\n", b'{"kind": [], "step": 1}\n']
    bad += [b'{"kind": "train", "step": ' + b"9" * 5000 + b"}\n", b'{"kind": "train"']
    run.metrics.write_bytes(good + b"".join(bad[:-1]) + good + bad[-1])
    run.start(Config(), step=5)
    assert run.metrics.read_bytes() == good + good
