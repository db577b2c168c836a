"""Commands without a checkpoint use the bundled model, report it, and name it in results."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from sparsevod_cli import app as cli
from sparsevod_core.checkpoint import embedded_checkpoint

if TYPE_CHECKING:
    from conftest import TinySet

Run = Callable[..., int]
SMALL_BENCH = ("--size", "64x96", "--num-supports", 1, "--repeats", 1, "--warmup", 0)


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    """Return a function that runs `sparsevod` on the CPU in an empty folder."""
    monkeypatch.chdir(tmp_path)

    def run_command(*arguments: object) -> int:
        words = ["sparsevod", *map(str, arguments), "--device", "cpu"]
        monkeypatch.setattr(sys, "argv", words)
        with pytest.raises(SystemExit) as end:
            cli.run()
        return int(end.value.code or 0)

    return run_command


def reports_model(printed: str) -> bool:
    lines = [line for line in printed.splitlines() if "bundled model" in line]
    return (
        len(lines) == 1
        and lines[0].startswith("no checkpoint given")
        and "10 classes: airplane, bird, drone" in lines[0]
        and "MODEL_CARD.md" in lines[0]
    )


@pytest.mark.parametrize(
    "command", [("detect",), ("visualize-stages", "--num-frames", 1)], ids=lambda words: words[0]
)
def test_on_a_video(command: tuple[object, ...], video_set: TinySet, run: Run, capsys: Any) -> None:
    video = video_set.annotations.parent / "narrow.mp4"
    assert run(*command, video, "--json", "-") == 0
    printed = capsys.readouterr()
    assert reports_model(printed.err)
    result = json.loads(printed.out)
    assert result["checkpoint"] == "embedded"
    assert len(result["categories"]) == 10


def test_eval(image_set: TinySet, run: Run, tmp_path: Path, capsys: Any) -> None:
    options = ("--limit-videos", 1, "--num-supports", 1, "--json", tmp_path / "ap.json")
    assert run("eval", "--annotations", image_set.annotations, *options) == 0
    assert reports_model(capsys.readouterr().err)
    result = json.loads((tmp_path / "ap.json").read_text())
    assert result["checkpoint"] == "embedded"
    assert "drone" in result["classes_left_out"]


def test_eval_asks_for_a_set(run: Run, capsys: Any) -> None:
    assert run("eval") == 1
    printed = capsys.readouterr().err
    assert reports_model(printed)
    error, hint = printed.splitlines()[-2:]
    assert error == "error: no videos to evaluate on: embedded records no validation set"
    assert hint == "  hint: use --annotations GT.json --root DIR"


def test_bench(run: Run, capsys: Any) -> None:
    assert run("bench", *SMALL_BENCH, "--json", "-") == 0
    printed = capsys.readouterr()
    assert reports_model(printed.err)
    result = json.loads(printed.out)
    model, made_by = result["model"], result["run"]
    assert (model["checkpoint"], model["config"]["backbone"]) == ("embedded", "lite0")
    assert made_by["settings"]["data.short_side"] == result["settings"]["size"][0]
    assert made_by["seed"] == 0


def test_bench_of_a_preset_has_random_weights(run: Run, capsys: Any) -> None:
    small = ("--backbone", "tiny", "--set", "model.num_stages=1")
    assert run("bench", *SMALL_BENCH, *small, "--json", "-") == 0
    printed = capsys.readouterr()
    assert "embedded" not in printed.err
    model = json.loads(printed.out)["model"]
    assert (model["weights"], model["config"]["num_stages"]) == ("random, seed 0", 1)


def test_bench_of_another_system_takes_its_number_of_support_frames(run: Run, capsys: Any) -> None:
    options = ("--size", "64x96", "--repeats", 1, "--warmup", 0, "--against", "plain")
    built = ("--system", "mega", "--backbone", "tiny", "--set", "inference.supports=3")
    assert run("bench", *options, *built, "--json", "-") == 0
    result = json.loads(capsys.readouterr().out)
    assert result["model"]["config"]["system"] == "mega"
    settings = result["settings"]
    assert (settings["supports"], settings["global_supports"], settings["batch"]) == (3, 10, 1)
    assert result["gflop_per_frame"]["published"] > result["gflop_per_frame"]["kept"] > 0
    assert result["against"]["plain"]["times_as_long"] > 0


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--set", "model.tfe=off"), ["model.tfe=off", "--backbone NAME"]),
        (("--checkpoint", "a.pth", "--backbone", "tiny"), ["--checkpoint", "--backbone", "both"]),
        (("--checkpoint", "a.pth", "--system", "fgfa"), ["--checkpoint", "--system", "both"]),
        (("--system", "mamba", "--backbone", "tiny", "--batch", 2), ["one by one", "--batch 1"]),
    ],
)
def test_bench_rejects_options_it_cannot_respect(
    options: tuple[str, ...], words: list[str], run: Run, capsys: Any
) -> None:
    assert run("bench", *options) == 2
    printed = capsys.readouterr().err
    assert [word for word in words if word not in printed] == []


def test_results_name_a_given_checkpoint_by_its_path(
    video_set: TinySet, run: Run, tmp_path: Path, capsys: Any
) -> None:
    (tmp_path / "mine.pth").symlink_to(embedded_checkpoint())
    video = video_set.annotations.parent / "single.mp4"
    assert run("detect", video, "--checkpoint", "mine.pth", "--json", "-") == 0
    printed = capsys.readouterr()
    assert "embedded" not in printed.err
    assert json.loads(printed.out)["checkpoint"] == "mine.pth"
