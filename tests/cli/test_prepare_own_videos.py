"""The user's own videos from labels to results, with their class ids unchanged."""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sparsevod_cli import app as cli
from sparsevod_cli import prepare_report
from sparsevod_core.prepare.conversion.prepared_split import PreparedSplit

SMALL = (
    "--max-steps 2 --set data.short_side=64 --set data.long_side=96 --set model.num_stages=2 "
    "--set data.workers=0 --set train.clips_per_gpu=1"
)


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Any:
    def call(*arguments: object) -> int:
        monkeypatch.setattr(sys, "argv", ["sparsevod", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            cli.run()
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


def write_frames(root: Path, names: list[str]) -> Path:
    import cv2

    for folder in ("images", "labels"):
        (root / folder).mkdir(parents=True)
    (root / "classes.txt").write_text("bird\ndrone\n")
    for name in names:
        cv2.imwrite(str(root / "images" / f"{name}.jpg"), np.zeros((48, 64, 3), np.uint8))
        (root / "labels" / f"{name}.txt").write_text("1 0.5 0.5 0.2 0.2\n")
    return root


def test_the_account_says_what_was_taken_for_what(run: Any, tmp_path: Path, capsys: Any) -> None:
    hashes = ["0a1b2c3d", "1f82c4e1", "29ab03ff", "3c0d9e17", "4b7f00a2", "5d21ce88"]
    clips = [f"clip{video}_{number:04d}" for video in "AB" for number in (1, 2, 3)]
    names = [f"{key}-{clip}" for key, clip in zip(hashes, clips, strict=True)]
    root = write_frames(tmp_path / "set", [*names, "cover"])
    arguments = ["-o", tmp_path / "all.json", "--json", tmp_path / "account.json"]
    assert run("prepare-vid", root, *arguments) == 0
    printed = capsys.readouterr()
    lines = printed.out.splitlines()
    assert max(map(len, lines)) <= 80
    for row in (["videos", "2"], ["per", "video", "3"], ["counted", "from", "1"], ["drone", "7"]):
        assert row in [line.split() for line in lines]
    assert "images/0a1b2c3d-clipA_0001.jpg ... 29ab03ff-clipA_0003.jpg -> video clipA" in lines
    assert "images/cover.jpg -> 1 still image" in lines
    assert "no tracks, so nothing is known about the speed of the objects" in lines
    assert "warning" not in printed.err
    (split,) = json.loads((tmp_path / "account.json").read_text())["splits"]
    assert (split["frames_per_video"], split["first_numbers"]) == ([3, 3, 3], [1, 1])
    assert split["longest"]["last_file"] == "images/29ab03ff-clipA_0003.jpg"


def test_videos_of_one_frame_are_questioned(run: Any, tmp_path: Path, capsys: Any) -> None:
    root = write_frames(tmp_path / "set", [f"clip{number}_0001" for number in range(4)])
    arguments = ["-o", tmp_path / "all.json", "--json", tmp_path / "account.json"]
    assert run("prepare-vid", root, *arguments) == 0
    assert (
        "warning: all: 4 of 4 videos have one frame, e.g. images/clip0_" in capsys.readouterr().err
    )
    (split,) = json.loads((tmp_path / "account.json").read_text())["splits"]
    (doubt,) = split["doubts"]
    assert "--group-by-folder" in doubt

    # Frames of one clip must not be in both files.
    code = run("prepare-vid", root, "-o", tmp_path / "out", "--val-fraction", 0.5)
    assert code == 2
    assert "frames that may belong together" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_crowd_boxes_are_counted_among_the_boxes(capsys: pytest.CaptureFixture[str]) -> None:
    left_out = {
        "boxes marked difficult, kept as crowd boxes": 2,
        "boxes that repeat another one": 4,
    }
    split = PreparedSplit("all", boxes_per_class={"cat": 9}, num_crowd=3, left_out=left_out)
    prepare_report.show("set", [split])
    rows = [line.rsplit(maxsplit=1) for line in capsys.readouterr().out.splitlines()]
    assert ["boxes", "9"] in rows
    assert ["  boxes marked difficult, kept as crowd boxes", "2"] in rows
    assert ["  crowd boxes, neither trained on nor scored", "1"] in rows
    assert ["left out: boxes that repeat another one", "4"] in rows


def test_frames_of_a_clip_stay_together(run: Any, tmp_path: Path) -> None:
    """Every file has its own hash in front, as uploads to Label Studio do."""
    clips = [f"clip{video}_frame_{number:04d}" for video in "AB" for number in range(1, 9)]
    names = [f"{hashlib.md5(clip.encode()).hexdigest()[:8]}-{clip}" for clip in clips]
    root = write_frames(tmp_path / "set", names)
    assert run("prepare-vid", root, "-o", tmp_path / "out", "--val-fraction", 0.5) == 0
    videos = []
    for split in ("train", "val"):
        content = json.loads((tmp_path / "out" / f"{split}.json").read_text())
        files = [Path(image["file_name"]).stem[9:] for image in content["images"]]
        assert len(files) == 8
        videos.append({name[:5] for name in files})
    assert sorted(map(sorted, videos)) == [["clipA"], ["clipB"]]
