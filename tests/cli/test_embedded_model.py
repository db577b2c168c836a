"""Commands without a checkpoint: the embedded model is used, that is said, and results name it."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from sparsevod_cli import main as cli
from sparsevod_core.checkpoint import embedded_checkpoint

if TYPE_CHECKING:
    from conftest import TinySet

Run = Callable[..., int]
SMALL_BENCH = ("--size", "64x96", "--num-supports", 1, "--repeats", 1, "--warmup", 0)


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    """Runs `sparsevod ARGUMENTS` on the CPU in an empty folder, and gives the exit code."""
    monkeypatch.chdir(tmp_path)

    def run_command(*arguments: object) -> int:
        words = ["sparsevod", *map(str, arguments), "--device", "cpu"]
        monkeypatch.setattr(sys, "argv", words)
        with pytest.raises(SystemExit) as end:
            cli.main()
        return int(end.value.code or 0)

    return run_command


def says_which_model(told: str) -> bool:
    lines = [line for line in told.splitlines() if "bundled model" in line]
    return (
        len(lines) == 1
        and lines[0].startswith("no --checkpoint given")
        and "10 classes: airplane, bird, drone" in lines[0]
        and "MODEL_CARD.md" in lines[0]
    )


@pytest.mark.parametrize(
    "command", [("detect",), ("visualize-stages", "--num-frames", 1)], ids=lambda words: words[0]
)
def test_on_a_video(command: tuple[object, ...], video_set: TinySet, run: Run, capsys: Any) -> None:
    video = video_set.annotations.parent / "narrow.mp4"
    assert run(*command, video, "--json", "-") == 0
    told = capsys.readouterr()
    assert says_which_model(told.err)
    result = json.loads(told.out)
    assert result["checkpoint"] == "embedded"
    assert len(result["categories"]) == 10


def test_eval(image_set: TinySet, run: Run, tmp_path: Path, capsys: Any) -> None:
    options = ("--limit-videos", 1, "--num-supports", 1, "--json", tmp_path / "ap.json")
    assert run("eval", "--annotations", image_set.annotations, *options) == 0
    assert says_which_model(capsys.readouterr().err)
    result = json.loads((tmp_path / "ap.json").read_text())
    assert result["checkpoint"] == "embedded"
    assert "drone" in result["classes_left_out"]


def test_eval_asks_for_a_set(run: Run, capsys: Any) -> None:
    assert run("eval") == 1
    told = capsys.readouterr().err
    assert says_which_model(told)
    error, hint = told.splitlines()[-2:]
    assert error == "error: which videos? the model (embedded) records no validation set"
    assert hint == "  hint: name a set with --annotations GT.json --root DIR"


def test_bench(run: Run, capsys: Any) -> None:
    assert run("bench", *SMALL_BENCH, "--json", "-") == 0
    told = capsys.readouterr()
    assert says_which_model(told.err)
    model = json.loads(told.out)["model"]
    assert (model["checkpoint"], model["config"]["backbone"]) == ("embedded", "tiny")


def test_bench_of_a_preset_has_random_weights(run: Run, capsys: Any) -> None:
    small = ("--backbone", "tiny", "--set", "model.num_stages=1")
    assert run("bench", *SMALL_BENCH, *small, "--json", "-") == 0
    told = capsys.readouterr()
    assert "embedded" not in told.err
    model = json.loads(told.out)["model"]
    assert (model["weights"], model["config"]["num_stages"]) == ("random, seed 0", 1)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--set", "model.tfe=off"), ["model.tfe=off", "--backbone NAME"]),
        (("--checkpoint", "a.pth", "--backbone", "tiny"), ["--checkpoint", "--backbone", "both"]),
    ],
)
def test_bench_does_not_ignore_what_it_is_told(
    options: tuple[str, ...], words: list[str], run: Run, capsys: Any
) -> None:
    assert run("bench", *options) == 2
    told = capsys.readouterr().err
    assert [word for word in words if word not in told] == []


def test_a_checkpoint_that_is_named_is_called_as_it_was(
    video_set: TinySet, run: Run, tmp_path: Path, capsys: Any
) -> None:
    (tmp_path / "mine.pth").symlink_to(embedded_checkpoint())
    video = video_set.annotations.parent / "single.mp4"
    assert run("detect", video, "--checkpoint", "mine.pth", "--json", "-") == 0
    told = capsys.readouterr()
    assert "embedded" not in told.err
    assert json.loads(told.out)["checkpoint"] == "mine.pth"
