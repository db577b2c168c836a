"""Evaluation and `detect` use the same support frames and give the same detections."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from sparsevod_core.config import load_config
from sparsevod_core.data.records import VideoSet
from sparsevod_core.evaluation.predictions.from_detector import detect_annotated_frames
from sparsevod_core.inference import Predictor
from sparsevod_core.model.build import build_detector
from sparsevod_core.structures import Category


@pytest.mark.parametrize("support", ["uniform", "window", "causal"])
def test_equals_the_predictor_on_the_file(video_set: Any, support: str) -> None:
    torch.manual_seed(1)
    config = load_config("tiny").replace(
        {
            "model.num_classes": 2,
            "model.num_stages": 2,
            "model.num_proposals": 5,
            "data.short_side": 32,
            "data.long_side": 48,
            "inference.support": support,
            "inference.supports": 3,
            "inference.window_stride": 2,
            "inference.batch": 4,
        }
    )
    detector = build_detector(config.model)
    predictor = Predictor(detector, config, (Category(7, "square"), Category(3, "bar")))
    videos = VideoSet.load(video_set.annotations)
    evaluated = dict(detect_annotated_frames(predictor, videos, [0]))
    path, _ = videos.frame_path(0)
    detected = {found.frame.index: found.detections for found in predictor.video(path)}
    assert evaluated.keys() == detected.keys() == set(range(24))
    for frame, expected in detected.items():
        np.testing.assert_allclose(evaluated[frame].scores, expected.scores, atol=1e-4)
        np.testing.assert_allclose(evaluated[frame].boxes_xyxy, expected.boxes_xyxy, atol=1e-2)
