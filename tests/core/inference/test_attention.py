"""Attention to support frames equals that of the model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from sparsevod_core.config import load_config
from sparsevod_core.inference import Predictor
from sparsevod_core.inference.attention import recording, support_boxes
from sparsevod_core.inference.inspection import inspect_stages
from sparsevod_core.model.build import build_detector
from sparsevod_core.model.proposal_aggregation import AttentionAggregation
from sparsevod_core.structures import Category

CATEGORIES = (Category(7, "square"), Category(3, "bar"))
SIZE = ["data.short_side=64", "data.long_side=96", "model.num_classes=2"]


def predictor(*settings: str) -> Predictor:
    config = load_config("tiny", overrides=[*SIZE, "inference.supports=3", *settings])
    torch.manual_seed(0)
    return Predictor(build_detector(config.model), config, CATEGORIES, device="cpu").plain()


@pytest.fixture(scope="module")
def long_video(video_set: Any) -> Path:
    return video_set.annotations.parent / "long.mp4"


def test_weights_are_those_that_spfa_attends_with() -> None:
    torch.manual_seed(0)
    spfa = AttentionAggregation(channels=8, num_heads=1)
    features, supports = torch.randn(2, 3, 8), torch.randn(2, 5, 8)
    kept = [of_supports[:, None] for of_supports in spfa.project(supports)]
    values = spfa.value(torch.cat([supports, features], dim=1))
    by_hand = features + spfa.output(spfa.weights(features, kept) @ values)
    torch.testing.assert_close(by_hand, spfa(features, kept))


@pytest.mark.parametrize("kind", ["attention", "average"])
def test_shares_add_up_to_one(long_video: Path, kind: str) -> None:
    model = predictor(f"model.tfe={kind}", f"model.spfa={kind}")
    stages, proposals = model.config.model.num_stages, model.config.model.num_proposals
    (view,) = inspect_stages(model, long_video, frames=[9]).views
    look = view.attention
    assert look is not None and look.spfa is not None and look.tfe is not None
    assert [support.index for support in view.supports] == [0, 12, 23]
    assert look.boxes_xyxy.shape == (stages, 3, proposals, 4)
    assert look.spfa.shape == (stages, proposals, 4, proposals)
    np.testing.assert_allclose(look.spfa.sum(axis=(2, 3)), 1, atol=1e-5)
    np.testing.assert_allclose(look.tfe.sum(axis=2), 1, atol=1e-5)
    if kind == "average":
        np.testing.assert_allclose(look.tfe, 1 / 4, atol=1e-6)
        np.testing.assert_allclose(look.spfa, 1 / (4 * proposals), atol=1e-6)


def test_points_lie_where_the_support_map_is_most_similar(long_video: Path) -> None:
    """Compare with a direct search, for some bins of some proposals."""
    model = predictor()
    with recording(model.detector) as recorded:
        (view,) = inspect_stages(model, long_video, frames=[9]).views
    assert view.attention is not None and view.attention.tfe_points is not None
    roi_features, maps, _ = recorded.temporal_roi[-1]
    width = maps.width
    height_px, width_px = view.image.shape[:2]
    stride = 4  # of P2, the level that preset tiny searches
    for proposal, support, n in ((0, 0, 0), (3, 1, 24), (7, 2, 48)):
        query = roi_features[0, proposal].flatten(1)[:, n]
        rows = maps.rows[0, support]
        best = int(F.cosine_similarity(rows, query[None], dim=1).argmax())
        at = np.array([best % width, best // width]) * stride + stride / 2
        at = at * [width_px / 96, height_px / 64]
        found = view.attention.tfe_points[-1, proposal, support, n]
        np.testing.assert_allclose(found, at, atol=1e-3)


def test_support_frames_are_refined_independently(video_set: Any) -> None:
    """SPFA starts as the identity: boxes equal those of detection without support frames."""
    model = predictor()
    images, sizes = model.as_seen(video_set.images["long"][:2])
    with torch.inference_mode():
        encoded = model.detector.encode(images, sizes)
        alone = model.detector.detect(encoded, None)
        boxes = support_boxes(model.detector, encoded)
    torch.testing.assert_close(boxes, alone.boxes_xyxy)


def test_recording_changes_nothing_and_ends(video_set: Any) -> None:
    model = predictor()
    frames = video_set.images["long"]
    memory = model.remember(frames[:3])
    before = model.detect(frames[3:4], memory)[0]
    with recording(model.detector) as recorded:
        during = model.detect(frames[3:4], memory)[0]
    np.testing.assert_array_equal(before.boxes_xyxy, during.boxes_xyxy)
    assert len(recorded.aggregation) == model.config.model.num_stages
    model.detect(frames[3:4], memory)
    assert len(recorded.aggregation) == model.config.model.num_stages


@pytest.mark.parametrize("off", ["tfe", "spfa"])
def test_parts_that_are_off(long_video: Path, off: str) -> None:
    (view,) = inspect_stages(predictor(f"model.{off}=off"), long_video, frames=[9]).views
    assert view.attention is not None
    assert (view.attention.spfa is None) == (off == "spfa")
    assert (view.attention.tfe is None) == (off == "tfe")


def test_no_attention_without_supports(long_video: Path) -> None:
    (view,) = inspect_stages(predictor("inference.supports=0"), long_video, frames=[9]).views
    assert view.attention is None and view.supports == ()
