"""Exported graphs return the detections of the detector on a real clip."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from sparsevod_core.checkpoint import Checkpoint, save_checkpoint
from sparsevod_core.config import load_config
from sparsevod_core.errors import ConfigError
from sparsevod_core.export.files import export_detector
from sparsevod_core.model.build import build_detector
from sparsevod_core.model.detector import top_detections
from sparsevod_core.reporting import SilentReporter
from sparsevod_core.structures import Category
from sparsevod_core.video.reader import VideoReader

SIZE = (64, 96)  # size of the clip's frames, so that nothing is resized
CATEGORIES = (Category(7, "square"), Category(3, "bar"))


@pytest.fixture(scope="module")
def detector():
    overrides = ["model.num_classes=2", "model.num_stages=2", "model.num_proposals=8"]
    # P5 has few positions, so that the different rounding of runtimes flips no near-tie.
    overrides.append("model.support_level=p4")
    config = load_config("tiny", overrides=overrides)
    torch.manual_seed(0)
    detector = build_detector(config.model).eval()
    for stage in detector.stages:
        nn.init.normal_(stage.aggregation.output.weight, std=0.1)
        nn.init.zeros_(stage.class_logits.bias)  # scores around 0.5
    return detector, config


@pytest.fixture(scope="module")
def exported(detector, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Export both file formats with the command."""
    folder = tmp_path_factory.mktemp("exported")
    model, config = detector
    save_checkpoint(folder / "model.pth", Checkpoint(config, CATEGORIES, model.state_dict()))
    for suffix in ("pt2", "onnx"):
        command = [sys.executable, "-m", "sparsevod_cli", "export", "model.pth", "--size", "64x96"]
        command += ["-o", f"model.{suffix}", "--json", f"{suffix}.json"]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
        said = json.loads((folder / f"{suffix}.json").read_text())
        assert said["files"] == [f"model.{suffix}", f"model_support.{suffix}"]
        assert said["image_size"] == [64, 96]
    assert len(list(folder.iterdir())) == 7  # no partial file is left
    return {suffix: folder / f"model.{suffix}" for suffix in ("pt2", "onnx")}


@pytest.fixture(scope="module")
def clip(video_set: Any) -> list[np.ndarray]:
    """Return the frames [1, 3, H, W] of an H.264 file."""
    with VideoReader(video_set.annotations.parent / "long.mp4") as reader:
        return [frame.image.transpose(2, 0, 1)[None].copy() for frame in reader]


@torch.inference_mode()
def expected(detector, clip: list[np.ndarray], target: int, supports: list[int]):
    model, _ = detector
    frames = torch.from_numpy(np.concatenate([clip[i] for i in supports]))
    memory = model.remember(model.encode(frames, torch.tensor([SIZE] * len(supports))))
    encoded = model.encode(torch.from_numpy(clip[target]), torch.tensor([SIZE]))
    output = model.detect(encoded, memory)
    return [values[0].numpy() for values in top_detections(output)]


def check(found: list[np.ndarray], right: list[np.ndarray]) -> None:
    boxes_xyxy, scores, labels = found
    np.testing.assert_allclose(scores, right[1], atol=1e-4)
    np.testing.assert_allclose(boxes_xyxy, right[0], atol=2e-2)
    assert np.array_equal(labels, right[2])


def test_onnx_runtime_finds_the_same(detector, exported: dict[str, Path], clip) -> None:
    onnxruntime = pytest.importorskip("onnxruntime", reason="needs onnxruntime (extra `dev`)")
    path = exported["onnx"]
    frame, support = (
        onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
        for file in (path, path.with_name("model_support.onnx"))
    )
    for target, supports in ((0, [5, 11, 17]), (20, [0, 3, 9, 12, 15]), (7, [6, 8])):
        remembered = [support.run(None, {"image": clip[index]}) for index in supports]
        maps, proposals = (np.concatenate(parts) for parts in zip(*remembered, strict=True))
        found = frame.run(
            None,
            {"image": clip[target], "support_maps": maps, "support_proposals": proposals},
        )
        check(found, expected(detector, clip, target, supports))
    about = json.loads(frame.get_modelmeta().custom_metadata_map["sparsevod"])
    assert about["image_size"] == [64, 96]
    assert about["categories"] == [{"id": 7, "name": "square"}, {"id": 3, "name": "bar"}]
    assert about["outputs"] == ["boxes_xyxy", "scores", "labels"]


def test_pt2_finds_the_same(detector, exported: dict[str, Path], clip) -> None:
    path = exported["pt2"]
    extra = {"sparsevod.json": ""}
    frame = torch.export.load(path, extra_files=extra).module()
    support = torch.export.load(path.with_name("model_support.pt2")).module()
    with torch.inference_mode():
        remembered = [support(torch.from_numpy(clip[index])) for index in (2, 9, 16, 23)]
        known = [torch.cat(parts) for parts in zip(*remembered, strict=True)]
        found = [values.numpy() for values in frame(torch.from_numpy(clip[12]), *known)]
    check(found, expected(detector, clip, 12, [2, 9, 16, 23]))
    assert json.loads(extra["sparsevod.json"])["graph"] == "model"


def test_the_example_runs_without_torch(exported: dict[str, Path], video_set: Any) -> None:
    pytest.importorskip("onnxruntime", reason="needs onnxruntime (extra `dev`)")
    example = Path(__file__).parents[3] / "examples" / "onnx_video.py"
    video = video_set.annotations.parent / "long.mp4"
    # Importing torch fails.
    start = "import runpy, sys; sys.modules['torch'] = None; sys.argv = sys.argv[1:]; "
    start += "runpy.run_path(sys.argv[0], run_name='__main__')"
    done = subprocess.run(
        [sys.executable, "-c", start, str(example), str(exported["onnx"]), str(video)],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert {line.split(":")[0] for line in lines} == {f"frame {n}" for n in range(24)}
    assert {line.split()[2] for line in lines} <= {"square", "bar"}


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["-o", "model.tflite"], "name ending in .onnx or .pt2"),
        (["-o", "nowhere/model.onnx"], "no such folder: nowhere"),
        (["--size", "big"], "expected HEIGHTxWIDTH"),
        (["missing.pth"], "missing.pth"),
    ],
)
def test_wrong_use_is_one_clear_line(arguments: list[str], says: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "sparsevod_cli", "export", *arguments],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode in (1, 2)
    assert says in done.stderr and "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_size_is_bounded(detector: Any, tmp_path: Path) -> None:
    size = {"image_size": (10**6, 64), "categories": (), "reporter": SilentReporter()}
    with pytest.raises(ConfigError, match="size 1000000x64: expected at most 8,192 pixels"):
        export_detector(detector[0], tmp_path / "model.pt2", **size)
    assert list(tmp_path.iterdir()) == []
