"""Every `sparsevod` command of the README, run in order on small data."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from sparsevod_core.weights.registry import PUBLISHED

if TYPE_CHECKING:
    from conftest import TinySet

README = Path(__file__).parents[1] / "README.md"
NOT_RUN_HERE = {  # they set up the environment of this test, take minutes, or need the network
    "make demo",
    "make demo VIDEO=holiday.mp4",
    "make test",
    "make lint",
    "make docs",
    "make bench",
    "make gpu-check",
    "pip install .",
    "sparsevod --install-completion",
    ".ci/run",
    "sparsevod weights get selsa-r50-vid",
}
SMALL_SET = "--videos 2 --val-videos 1 --frames 6 --val-frames 6 --frame-size 96x128"
SMALL_MODEL = (
    "--set data.short_side=64 --set data.long_side=96 --set model.num_stages=2 "
    "--set model.num_proposals=6"
)
SMALL_TRAINING = f"--max-steps 2 --set train.clips_per_gpu=2 --set data.workers=0 {SMALL_MODEL}"


def shown_commands() -> list[str]:
    blocks = re.findall(r"```(?:bash|console)\n(.*?)```", README.read_text(), re.DOTALL)
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    commands = [re.sub(r"\s+#.*", "", line).strip() for line in lines]
    return [re.sub(r"\s+", " ", c) for c in commands if c and not c.startswith("#")]


def made_small(command: str) -> str:
    """Return the same command with a data set, model and steps that take seconds on a CPU."""
    command = command.replace("--backbone r50", "--backbone tiny")
    command = command.replace("--gpus 8", "--gpus 2 --device cpu")
    if "prepare-vid --synthetic" in command:
        return f"{command} {SMALL_SET}"
    if command.startswith("sparsevod train"):
        return f"{command} {SMALL_TRAINING}"
    if command.startswith(("sparsevod bench data", "sparsevod bench train")):
        return f"{command} --warmup 0 --steps 1 {SMALL_TRAINING.removeprefix('--max-steps 2 ')}"
    if command.startswith("sparsevod reproduce"):
        small = SMALL_TRAINING.replace("--max-steps 2", "--set train.max_steps=2")
        return f"{command} --tables 2 --seeds 0 --only baseline {small}"
    if command.startswith("sparsevod bench"):
        return f"{command} --repeats 1 --warmup 0"
    return command


def write_yolo_set(annotations: Path, folder: Path) -> None:
    """Write the rendered videos with YOLO labels."""
    content = json.loads(annotations.read_text())
    names = [category["name"] for category in content["categories"]]
    labels = {category["id"]: label for label, category in enumerate(content["categories"])}
    for image in content["images"]:
        source = annotations.parent / image["file_name"]
        name = f"{source.parent.name}/{source.stem}"
        picture, text = folder / f"images/{name}.jpg", folder / f"labels/{name}.txt"
        for path in (picture, text):
            path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, picture)
        lines = []
        for box in content["annotations"]:
            if box["image_id"] == image["id"]:
                x, y, width, height = box["bbox"]
                centre = ((x + width / 2) / image["width"], (y + height / 2) / image["height"])
                size = (width / image["width"], height / image["height"])
                lines.append(" ".join(map(str, (labels[box["category_id"]], *centre, *size))))
        text.write_text("\n".join(lines))
    (folder / "classes.txt").write_text("\n".join(names))


def annotations_of(video_set: TinySet, video: str, file_name: str) -> dict[str, Any]:
    """Return the annotations of a video whose file has another name now."""
    content = json.loads(video_set.annotations.read_text())
    content["videos"] = [
        one | {"file_name": file_name} for one in content["videos"] if one["name"] == video
    ]
    (id_,) = (one["id"] for one in content["videos"])
    content["images"] = [one for one in content["images"] if one.get("video_id") == id_]
    kept = {one["id"] for one in content["images"]}
    content["annotations"] = [one for one in content["annotations"] if one["image_id"] in kept]
    return content


@pytest.mark.slow
def test_readme_commands_run(tmp_path: Path, video_set: TinySet) -> None:
    shutil.copy(video_set.annotations.parent / "narrow.mp4", tmp_path / "video.mp4")
    (tmp_path / "gt.json").write_text(json.dumps(annotations_of(video_set, "narrow", "video.mp4")))
    (tmp_path / "clips").mkdir()
    for name in ("a", "b"):
        shutil.copy(tmp_path / "video.mp4", tmp_path / "clips" / f"{name}.mp4")
    (tmp_path / "videos.txt").write_text("clips/a.mp4\nclips/b.mp4\n")
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}

    def run(command: str) -> None:
        words = shlex.split(command)
        assert words[0] == "sparsevod", f"README shows {command!r}, which nothing here runs"
        finished = subprocess.run(
            [sys.executable, "-m", "sparsevod_cli", *words[1:]],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert finished.returncode == 0, f"{command}\n{finished.stdout}\n{finished.stderr}"

    published = tuple(f"--checkpoint {name}" for name in PUBLISHED)
    commands = [
        command
        for command in shown_commands()
        if command not in NOT_RUN_HERE and not command.endswith(published)
    ]
    assert len(commands) >= 10
    for command in commands:
        run(made_small(command))
        if "prepare-vid --synthetic" in command:  # the reader's own data
            folder = tmp_path / "data" / "synthetic"
            shutil.copytree(folder, tmp_path / "ILSVRC2015")
            write_yolo_set(folder / "train.json", tmp_path / "my_videos")
            shutil.copy(folder / "preview.mp4", tmp_path / "clip.mp4")
    for made in (
        "out.mp4",
        "compared.mp4",
        "found/a.mkv",
        "found/b.mp4",
        "docs/pictures/detection.gif",
        "docs/pictures/stages.html",
        "docs/pictures/stages_supports.png",
        "runs/tiny/boxes.mp4",
        "runs/tiny/model.onnx",
        "runs/tiny/model_support.onnx",
        "runs/tiny/stages.png",
        "data/imagenet_vid/train.check.png",
        "runs/r50/figures/ap_by_iou.png",
        "results/imagenet_vid/tables.json",
        "runs/mine/figures/worst_frames.png",
        "clip_boxes.mp4",
    ):
        assert (tmp_path / made).stat().st_size > 1000
