"""The example scripts do what they say, on a small rendered set."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
SMALL = "--max-steps 2 --set data.short_side=64 --set data.long_side=96 --set model.num_stages=2"


def run(script: str, *arguments: object, folder: Path) -> str:
    finished = subprocess.run(
        [sys.executable, EXAMPLES / script, *map(str, arguments)],
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert finished.returncode == 0, finished.stdout + finished.stderr
    return finished.stdout


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """What the demo leaves, made with a small set in place of the one that it would render."""
    from sparsevod_core.data.synthetic import SyntheticConfig, prepare_synthetic

    folder = tmp_path_factory.mktemp("demo")
    small = SyntheticConfig(
        train_videos=2, val_videos=1, frames=6, val_frames=6, width=128, height=96
    )
    prepare_synthetic(folder / "demo" / "synthetic", small)
    out = run(
        "demo.py", "--video", "demo/synthetic/preview.mp4", "--", *SMALL.split(), folder=folder
    )
    assert "== Done in" in out
    return folder / "demo"


@pytest.mark.slow
def test_demo_leaves_what_it_names_and_goes_on(demo):
    for name in ("detections.mp4", "preview_detections.mp4", "stages.png", "stages.pdf"):
        assert (demo / name).stat().st_size > 1000
    assert 0 <= json.loads((demo / "eval.json").read_text())["AP50"] <= 1
    assert len(json.loads((demo / "detections.json").read_text())["frames"]) == 6
    again = run("demo.py", folder=demo.parent)  # finished already: nothing is trained again
    assert "train --resume" in again


@pytest.mark.slow
def test_scripts_on_the_demo(demo):
    best = demo / "run" / "checkpoints" / "best.pth"
    run("detect_video.py", best, demo / "synthetic" / "preview.mp4", folder=demo)
    images = sorted((demo / "synthetic" / "Data" / "VID" / "val").rglob("*.JPEG"))[:2]
    assert len(run("detect_images.py", best, *images, folder=demo).splitlines()) == 10
    table = run("evaluate_supports.py", best, demo / "synthetic" / "val.json", folder=demo)
    assert [line.split()[0] for line in table.splitlines()] == ["0", "2", "6"]


def test_own_forward():
    out = run("own_forward.py", folder=EXAMPLES)
    assert "same as the first clip: True" in out


def test_own_videos(tmp_path):
    import cv2
    import numpy as np

    folder = tmp_path / "mine"
    for number in (1, 2):
        path = folder / "clip" / f"{number:06d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(cv2.imencode(".png", np.zeros((64, 96, 3), np.uint8))[1].tobytes())
        path.with_suffix(".txt").write_text("0 0.5 0.5 0.2 0.2\n1 0.5 0.5 1.8 nan\n")
    (folder / "classes.txt").write_text("cat\ndog\n")
    lines = run("own_videos.py", folder, tmp_path / "mine.json", folder=tmp_path).splitlines()
    assert lines[0].endswith("is yolo: it has classes.txt")
    assert [line.startswith("left out: ") for line in lines[1:3]] == [True, True]
    assert lines[3] == "clip: 2 frames of (64, 96, 3), first ['cat']"
