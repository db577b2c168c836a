"""`sparsevod visualize-stages` on a tiny video and checkpoint: files, messages, exit codes."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from sparsevod_cli import app as cli
from sparsevod_cli.commands.visualize_stages import visualize_stages
from sparsevod_core.checkpoint import Checkpoint, save_checkpoint
from sparsevod_core.config import load_config
from sparsevod_core.model.build import build_detector
from sparsevod_core.structures import Category


@pytest.fixture(scope="module")
def video(video_set: Any) -> Path:
    return video_set.annotations.parent / "long.mp4"


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """An untrained tiny detector for each proposal initialization."""
    folder = tmp_path_factory.mktemp("checkpoints")
    paths = {}
    for init in ("grid", "image"):
        config = load_config(
            "tiny",
            overrides=[
                "model.num_classes=2",
                f"model.proposal_init={init}",
                "data.short_side=64",
                "data.long_side=96",
            ],
        )
        torch.manual_seed(0)
        categories = (Category(7, "square"), Category(3, "bar"))
        weights = build_detector(config.model).state_dict()
        paths[init] = folder / f"{init}.pth"
        save_checkpoint(paths[init], Checkpoint(config, categories, weights))
    return paths


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str | Path) -> int:
    """Run the command in this process and return its exit code."""
    words = ["sparsevod", "visualize-stages", *map(str, arguments)]
    monkeypatch.setattr(sys, "argv", words)
    try:
        cli.run()
    except SystemExit as stopped:
        return int(stopped.code or 0)
    return 0


def test_png_pdf_and_json_of_chosen_frames(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    video: Path,
    checkpoints: dict[str, Path],
) -> None:
    png, out = tmp_path / "new" / "fig.png", tmp_path / "fig.json"
    options = ["--checkpoint", checkpoints["grid"], "-o", png, "--frames", "3,20", "--json", out]
    assert run(monkeypatch, video, *options, "--num-supports", "2", "--device", "cpu") == 0
    assert png.read_bytes().startswith(b"\x89PNG")
    assert png.with_suffix(".pdf").read_bytes().startswith(b"%PDF")
    names = ["fig.html", "fig.pdf", "fig.png", "fig_supports.pdf", "fig_supports.png"]
    assert sorted(path.name for path in png.parent.iterdir()) == names
    content = json.loads(out.read_text())
    assert [frame["index"] for frame in content["frames"]] == [3, 20]
    assert content["frames"][0]["supports"] == [0, 23]
    assert content["checkpoint"] == str(checkpoints["grid"])
    assert content["run"].keys() >= {"version", "device", "precision", "seed", "settings"}
    stage = content["frames"][1]["stages"][-1]
    for shares in (*stage["spfa_weights"], *stage["tfe_weights"]):
        assert len(shares) == 3  # two support frames, and the frame itself
        assert sum(shares) == pytest.approx(1, abs=1e-3)
    assert {one["support"] for one in stage["spfa_strongest"]} <= {0, 23}
    printed = capsys.readouterr()
    assert printed.out == ""
    num_proposals = load_config("tiny").model.num_proposals
    assert f"{num_proposals} learned proposals, grid initialization" in printed.err
    assert f"wrote {png}" in printed.err
    assert f"wrote {png.with_suffix('.pdf')}" in printed.err
    assert "nearly the same" not in printed.err
    # An untrained model: the message explains the empty figure.
    assert "no box with a score > 0.3 (best: 0.0" in printed.err


def test_identical_proposals_are_explained(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    video: Path,
    checkpoints: dict[str, Path],
) -> None:
    options = ["--checkpoint", checkpoints["image"], "-o", tmp_path / "a.pdf", "--num-frames", "1"]
    assert run(monkeypatch, video, *options, "--stages", "1,3", "--json", "-") == 0
    printed = capsys.readouterr()
    assert "warning: the learned proposals are nearly the same box" in printed.err
    assert "model.proposal_init=grid" in printed.err
    (frame,) = json.loads(printed.out)["frames"]  # nothing but JSON on stdout
    assert frame["index"] == 12
    assert frame["proposals_mean_iou"] == 1
    assert len(frame["stages"]) == 3  # all, whatever is drawn
    suffixes = ("a.html", "a.pdf", "a.png", "a_supports.pdf", "a_supports.png")
    assert {path.name for path in tmp_path.iterdir()} == set(suffixes)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--frames", "3,24"], ["no frame 24", "long.mp4", "24 frames"]),
        (["--frames", "3,x"], ["--frames '3,x'", "comma-separated integers"]),
        (["--frames", ",".join(map(str, range(25)))], ["--frames", "at most 24"]),
        (["--stages", "1,4"], ["no stage 4", "stages 1 to 3"]),
        (["--stages", "last"], ["--stages 'last'"]),
        (["-o", "fig.svg"], ["fig.svg", "NAME.png, NAME.pdf or NAME.html"]),
        (["--support-mode", "random"], ["random", "uniform"]),
        (["--score", "1.5"], ["--score"]),
        (["--set", "model.num_stages=1"], ["model"]),
    ],
    ids=lambda value: " ".join(value)[:16],
)
def test_usage_errors_are_one_line_and_write_nothing(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    video: Path,
    checkpoints: dict[str, Path],
    options: list[str],
    words: list[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(monkeypatch, video, "--checkpoint", checkpoints["grid"], *options) == 2
    printed = capsys.readouterr().err
    assert [word for word in words if word not in printed] == []
    assert "Traceback" not in printed
    assert list(tmp_path.iterdir()) == []


def test_help_explains_every_key_of_the_json(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    video: Path,
    checkpoints: dict[str, Path],
) -> None:
    options = ["--checkpoint", checkpoints["grid"], "-o", tmp_path / "a.png", "--num-frames", "1"]
    assert run(monkeypatch, video, *options, "--json", "-") == 0
    content = json.loads(capsys.readouterr().out)
    (frame,) = content["frames"]
    explained = visualize_stages.__doc__ or ""
    parts = (content, content["support"], content["categories"][0], frame, frame["stages"][0])
    assert [key for part in parts for key in part if key not in explained] == []


@pytest.mark.parametrize("missing", ["none.mp4", "none.pth"])
def test_a_missing_file_is_named(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    video: Path,
    checkpoints: dict[str, Path],
    missing: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    files = {"none.mp4": ("none.mp4", checkpoints["grid"]), "none.pth": (video, "none.pth")}
    used_video, used_checkpoint = files[missing]
    assert run(monkeypatch, used_video, "--checkpoint", used_checkpoint) == 1
    assert missing in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
