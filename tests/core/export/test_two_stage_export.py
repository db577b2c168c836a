"""Exported SELSA, Temporal RoI Align and Faster R-CNN return the detections of the detector."""

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

from sparsevod_core.config import load_config
from sparsevod_core.errors import ConfigError
from sparsevod_core.export.files import export_detector
from sparsevod_core.export.fixed_nms import ClassByClass, best_proposals
from sparsevod_core.model.build import build_detector
from sparsevod_core.model.two_stage.box_code import MMDETECTION
from sparsevod_core.model.two_stage.detections import BoxHeadOutput, DetectionSelector
from sparsevod_core.model.two_stage.region_proposals import Proposals, _first_kept
from sparsevod_core.reporting import SilentReporter
from sparsevod_core.structures import Category
from sparsevod_core.video.reader import VideoReader

SIZE = (64, 96)
CATEGORIES = (Category(7, "square"), Category(3, "bar"))


def detector_of(system: str, *settings: str) -> Any:
    """Return a small detector whose scores differ clearly from proposal to proposal."""
    small = [
        "model.num_classes=2",
        "model.num_proposals=10",
        "model.faster_rcnn.support_proposals=6",
        "model.faster_rcnn.head_layers=2",
        "model.faster_rcnn.max_detections=12",
    ]
    config = load_config("tiny", overrides=[*small, *settings], system=system)
    torch.manual_seed(0)
    detector = build_detector(config.model).eval()
    if system in ("selsa", "troi"):
        nn.init.normal_(detector.rpn.logits.weight, std=0.5)
        nn.init.normal_(detector.head.class_logits.weight, std=0.5)
    return detector


@pytest.fixture(scope="module")
def clip(video_set: Any) -> list[np.ndarray]:
    with VideoReader(video_set.annotations.parent / "long.mp4") as reader:
        return [frame.image.transpose(2, 0, 1)[None].copy() for frame in reader]


@torch.inference_mode()
def expected(detector: Any, clip: list[np.ndarray], target: int, supports: list[int]) -> list[Any]:
    sizes = torch.tensor([SIZE])
    encoded = [detector.encode(torch.from_numpy(clip[i]), sizes) for i in [target, *supports]]
    memory = detector.join([detector.remember(one) for one in encoded[1:]]) if supports else None
    return [part[0].numpy() for part in detector.top(detector.detect(encoded[0], memory))]


def check(found: Any, right: list[np.ndarray]) -> None:
    boxes_xyxy, scores, labels = found
    assert (right[1] > 1e-3).sum() > 3
    np.testing.assert_allclose(scores, right[1], atol=1e-4)
    np.testing.assert_allclose(boxes_xyxy, right[0], atol=2e-2)
    assert np.array_equal(labels, right[2])


def export(detector: Any, path: Path) -> list[Path]:
    return export_detector(
        detector, path, image_size=SIZE, categories=CATEGORIES, reporter=SilentReporter()
    )


@pytest.mark.slow
@pytest.mark.parametrize("system", ["selsa", "troi"])
def test_onnx_runtime_finds_the_same(
    system: str, clip: list[np.ndarray], video_set: Any, tmp_path: Path
) -> None:
    onnxruntime = pytest.importorskip("onnxruntime", reason="needs onnxruntime (extra `dev`)")
    detector = detector_of(system)
    files = export(detector, tmp_path / "model.onnx")
    # One thread: with several, one score of TROI differed once, in a run of the whole suite. The
    # cause is not established; an order of sums that depends on the load is the likely one.
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    frame, support = (
        onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
        for file in files
    )
    names = [output.name for output in support.get_outputs()]
    assert names[-2:] == ["support_proposals", "support_valid"]
    for target, supports in ((5, [5, 11, 17]), (7, [6, 8])):
        remembered = [support.run(None, {"image": clip[index]}) for index in supports]
        parts = [np.concatenate(one) for one in zip(*remembered, strict=True)]
        inputs = {"image": clip[target], **dict(zip(names, parts, strict=True))}
        check(frame.run(None, inputs), expected(detector, clip, target, supports))
    about = json.loads(frame.get_modelmeta().custom_metadata_map["sparsevod"])
    assert about["inputs"] == ["image", *names]

    example = Path(__file__).parents[3] / "examples" / "onnx_video.py"
    video = video_set.annotations.parent / "long.mp4"
    command = [sys.executable, str(example), str(files[0]), str(video)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert {line.split()[2] for line in done.stdout.splitlines()} <= {"square", "bar"}


def test_pt2_finds_the_same(clip: list[np.ndarray], tmp_path: Path) -> None:
    detector = detector_of("troi")
    frame, support = (
        torch.export.load(file).module() for file in export(detector, tmp_path / "model.pt2")
    )
    with torch.inference_mode():
        remembered = [support(torch.from_numpy(clip[index])) for index in (2, 9, 16, 23)]
        known = [torch.cat(parts) for parts in zip(*remembered, strict=True)]
        found = [values.numpy() for values in frame(torch.from_numpy(clip[12]), *known)]
    check(found, expected(detector, clip, 12, [2, 9, 16, 23]))


def test_a_detector_of_single_frames_is_one_graph(clip: list[np.ndarray], tmp_path: Path) -> None:
    detector = detector_of("selsa", "model.temporal=false")
    (file,) = export(detector, tmp_path / "model.pt2")
    with torch.inference_mode():
        found = torch.export.load(file).module()(torch.from_numpy(clip[3]))
    check([values.numpy() for values in found], expected(detector, clip, 3, []))


@pytest.mark.parametrize("system", ["mamba", "mega", "fgfa", "transvod"])
def test_other_systems_are_refused_in_one_line(system: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be exported") as refused:
        export(detector_of(system), tmp_path / "model.onnx")
    assert "sparsevod, selsa, troi" in (refused.value.hint or "")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("count", [3, 20, 60])
def test_fixed_proposals_are_those_of_the_detector(count: int) -> None:
    generator = torch.Generator().manual_seed(0)
    corner = 40 * torch.rand(40, 2, generator=generator)
    boxes = torch.cat([corner, corner + 30 * torch.rand(40, 2, generator=generator)], dim=1)
    scores = torch.rand(40, generator=generator).sort(descending=True).values
    scores[5:8] = scores[5]
    valid = torch.rand(40, generator=generator) > 0.2
    found = best_proposals(boxes[None], scores[None], valid[None], iou=0.4, count=count)
    kept = _first_kept(boxes[valid], scores[valid], 0.4, count)
    number = len(kept)
    assert number < valid.sum() and found.counts.tolist() == [number]
    assert found.boxes.shape == (1, count, 4) and found.scores.shape == (1, count)
    torch.testing.assert_close(found.boxes[0, :number], boxes[valid][kept])
    torch.testing.assert_close(found.scores[0, :number], scores[valid][kept])
    assert found.boxes[0, number:].abs().sum() == 0


def test_class_by_class_is_the_same_selection() -> None:
    generator = torch.Generator().manual_seed(0)
    corner = 40 * torch.rand(1, 30, 2, generator=generator)
    boxes = torch.cat([corner, corner + 10 + 20 * torch.rand(1, 30, 2, generator=generator)], 2)
    proposals = Proposals(boxes, torch.ones(1, 30), torch.tensor([25]))
    logits = 2 * torch.randn(1, 30, 5, generator=generator)
    deltas = 0.3 * torch.randn(1, 30, 16, generator=generator)
    output = BoxHeadOutput(logits, deltas, proposals, torch.tensor([[80, 90]]))
    rules = ((0.1,) * 4, 0.05, 0.4, 40, MMDETECTION)
    for found, right in zip(
        ClassByClass(*rules)(output), DetectionSelector(*rules)(output), strict=True
    ):
        torch.testing.assert_close(found, right)
