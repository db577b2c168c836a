"""The user's own videos from labels to results, with their class ids unchanged."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sparsevod_cli import main as cli

SMALL = (
    "--max-steps 2 --set data.short_side=64 --set data.long_side=96 --set model.num_stages=2 "
    "--set data.workers=0 --set train.clips_per_gpu=1"
)


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Any:
    def call(*arguments: object) -> int:
        monkeypatch.setattr(sys, "argv", ["sparsevod", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            cli.main()
        return int(end.value.code or 0)

    return call


@pytest.fixture
def yolo_set(tmp_path: Path) -> Path:
    """Make four videos of four frames; class 2 is `bird`, classes 0 and 1 do not occur."""
    import cv2

    root = tmp_path / "mine"
    for video in "abcd":
        for number in range(4):
            image = np.full((64, 96, 3), 40, np.uint8)
            image[20:40, 10 + 4 * number : 40 + 4 * number] = 220
            path = root / "images" / video / f"{number:06d}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(cv2.imencode(".jpg", image)[1].tobytes())
            label = root / "labels" / video / f"{number:06d}.txt"
            label.parent.mkdir(parents=True, exist_ok=True)
            label.write_text(f"2 {(25 + 4 * number) / 96} {30 / 64} {30 / 96} {20 / 64} 1\n")
    (root / "data.yaml").write_text("names: {0: cat, 1: dog, 2: bird}\n")
    return root


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    import av

    path = tmp_path / "clip.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height = 96, 64
        for _ in range(3):
            frame = av.VideoFrame.from_ndarray(np.full((64, 96, 3), 90, np.uint8), "rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


@pytest.mark.slow
def test_from_labels_to_results(
    yolo_set: Path, clip: Path, run: Any, tmp_path: Path, capsys: Any
) -> None:
    out = tmp_path / "prepared"
    assert run("prepare-vid", yolo_set, "-o", out, "--val-fraction", 0.25, "--seed", 3) == 0
    printed = capsys.readouterr()
    assert "detected format yolo from data.yaml with names" in printed.err
    assert "bird" in printed.out
    assert json.loads((out / "train.json").read_text())["info"]["seed"] == 3

    folder = tmp_path / "run"
    arguments = ["--annotations", out / "train.json", "--val", out / "val.json"]
    code = run("train", "--backbone", "tiny", *arguments, "--output", folder, *SMALL.split())
    assert code == 0
    (checkpoint, *_) = sorted((folder / "checkpoints").glob("*.pth"))
    results = tmp_path / "eval.json"
    evaluation = ["--annotations", out / "val.json", "--json", results]
    predictions = tmp_path / "predictions.json"
    saved = ["--save-predictions", predictions]
    assert run("eval", checkpoint, *evaluation, *saved) == 0
    image_ids = {image["id"] for image in json.loads((out / "val.json").read_text())["images"]}
    entries = json.loads(predictions.read_text())
    entries = entries if isinstance(entries, list) else entries["annotations"]
    assert {entry["category_id"] for entry in entries} <= {0, 1, 2}
    assert {entry["image_id"] for entry in entries} == image_ids
    assert "bird" in json.loads(results.read_text())["per_class"]

    detections = tmp_path / "detections.json"
    options = ["--checkpoint", checkpoint, "--json", detections]
    assert run("detect", clip, *options, "-o", tmp_path / "boxes.mp4") == 0
    frames = json.loads(detections.read_text())["frames"]
    found = {(box["class_id"], box["label"]) for frame in frames for box in frame["detections"]}
    assert found and found <= {(0, "cat"), (1, "dog"), (2, "bird")}


def test_several_processes_write_the_same_file(yolo_set: Path, run: Any, tmp_path: Path) -> None:
    written = []
    for workers in (0, 2):
        file = tmp_path / "same.json"
        options = ["-o", file, "--format", "yolo", "--workers", workers]
        assert run("prepare-vid", yolo_set, *options) == 0
        written.append(file.read_bytes())
    assert written[0] == written[1]


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--val-fraction", 0.2], 2, "no output given"),
        (["-o", "out"], 2, "is not divided into train and val"),
        (["-o", "out", "--val-fraction", 2], 2, "expected a fraction between 0 and 1"),
        (["-o", "out.json", "--val-fraction", 0.5], 2, "one file for two splits"),
        (["-o", "out.json", "--splits", "test"], 2, "unknown split 'test': expected out"),
        (["-o", "out.json", "--format", "toml"], 2, "--format toml: expected auto, imagenet, coco"),
        (["-o", "out.json", "--images", "."], 2, "--images goes with coco, cvat"),
        (["-o", "out.json", "--no-det"], 2, "--no-det is for ImageNet VID"),
        (["-o", "out.json", "--format", "imagenet"], 1, "no ImageNet VID here"),
        (["-o", "out.json", "--format", "voc"], 1, "no class names"),
        (["-o", "out.json", "--format", "cvat"], 1, "no CVAT file here"),
        (["-o", "out.json", "--format", "coco"], 1, "no COCO file: expected a .json"),
        (["-o", "out.json", "--classes", "none.txt"], 1, "none.txt: cannot be read"),
    ],
)
def test_wrong_use_is_one_line(
    yolo_set: Path,
    run: Any,
    capsys: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[object],
    code: int,
    words: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run("prepare-vid", yolo_set, *arguments) == code
    assert words in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]
