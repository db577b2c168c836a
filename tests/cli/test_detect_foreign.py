"""A checkpoint as MMTracking writes it, from the command line."""

from __future__ import annotations

import json
import sys
from collections import OrderedDict
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sparsevod_cli import app as cli
from sparsevod_core.class_lists.imagenet_vid import IMAGENET_VID_CLASSES
from sparsevod_core.video.writer import VideoWriter

KEYS = Path(__file__).parents[1] / "fixtures" / "mmtracking_keys"
BUS = 5


@pytest.fixture
def published(tmp_path: Path) -> Path:
    """A SELSA on ResNet-50 in the old format of PyTorch, with all that MMTracking adds.

    Each weight is one repeated number; only the bias of a class stands out.
    """
    state: OrderedDict[str, torch.Tensor] = OrderedDict()
    for part in ("r50", "selsa"):
        for line in (KEYS / f"{part}.txt").read_text().splitlines():
            name, shape = line.split()
            sizes = [] if shape == "scalar" else [int(size) for size in shape.split("x")]
            dtype = torch.int64 if name.endswith("tracked") else torch.float32
            number = 1 if name.endswith(("running_var", "rpn_conv.weight")) else 0
            state[name] = torch.full((), number, dtype=dtype).expand(sizes)
    bias = torch.zeros(31)
    bias[BUS] = 5
    state["detector.roi_head.bbox_head.fc_cls.bias"] = bias
    meta = {
        "CLASSES": tuple(one.name for one in IMAGENET_VID_CLASSES),
        "config": "model = dict(aggregator=dict(type='SelsaAggregator', num_attention_blocks=16))",
        "epoch": 7,
        "mmtrack_version": "0.5.0",
        "best": np.float64(0.784),
        "hook_msgs": {},
    }
    path = tmp_path / "selsa_faster_rcnn_r50_dc5_1x_imagenetvid.pth"
    contents = {"meta": meta, "state_dict": state}
    torch.save(contents, path, _use_new_zipfile_serialization=False)
    return path


def test_detect_with_a_file_of_mmtracking(
    published: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    with VideoWriter(tmp_path / "a.mp4", 96, 64, frame_rate=Fraction(25)) as writer:
        for _ in range(2):
            writer.write(np.full((64, 96, 3), 90, np.uint8))
    command = ["detect", "a.mp4", "--checkpoint", str(published), "--num-supports", "1"]
    command += ["--set", "data.short_side=64", "--set", "data.long_side=96", "--device", "cpu"]
    monkeypatch.setattr(sys, "argv", ["sparsevod", *command, "--json", "a.json"])
    with pytest.raises(SystemExit) as end:
        cli.run()
    shown = capsys.readouterr()
    assert end.value.code in (0, None), shown.err
    said = " ".join((shown.out + shown.err).split())
    assert "MMTracking's SELSA (r50, 30 classes); all 350 weights loaded" in said
    assert "not stated" not in said and "skipped" not in said
    frames = json.loads((tmp_path / "a.json").read_text())["frames"]
    best = [frame["detections"][0] for frame in frames]
    assert [one["label"] for one in best] == ["bus", "bus"]
    assert best[0]["score"] == pytest.approx(np.exp(5) / (np.exp(5) + 30), abs=1e-4)
