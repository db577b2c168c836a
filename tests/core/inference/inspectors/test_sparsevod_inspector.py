"""Attention of SparseVOD to support frames equals that of the model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from tiny_systems import predictor_of

from sparsevod_core.inference import Predictor
from sparsevod_core.inference.inspection import inspect_stages
from sparsevod_core.inference.inspectors import inspector_of
from sparsevod_core.inference.inspectors.inspector import recording
from sparsevod_core.model.proposal_aggregation import AttentionAggregation


def predictor(*settings: str) -> Predictor:
    return predictor_of("sparsevod", *settings)


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
    assert [support.index for support in view.supports] == [0, 12, 23]
    assert [(layer.name, layer.stage) for layer in view.attention] == [
        (name, stage) for stage in range(1, stages + 1) for name in ("SPFA", "TFE")
    ]
    for layer in view.attention:
        np.testing.assert_allclose(layer.weights.sum(axis=1), 1, atol=1e-5)
        if layer.proposals is not None and layer.boxes_xyxy is not None:
            assert layer.boxes_xyxy.shape == (3, proposals, 4)
            assert layer.proposals.shape == (proposals, 3, proposals)
            np.testing.assert_allclose(
                layer.proposals.sum(axis=2), layer.weights[:, :-1], atol=1e-5
            )
            if kind == "average":
                np.testing.assert_allclose(layer.proposals, 1 / (4 * proposals), atol=1e-6)
        elif kind == "average":
            np.testing.assert_allclose(layer.point_weights, 1 / 4, atol=1e-6)


def test_points_lie_where_the_support_map_is_most_similar(long_video: Path) -> None:
    """Compare with a direct search, for some bins of some proposals."""
    model = predictor()
    last = model.detector.stages[-1].temporal_roi
    with recording([last]) as recorded:
        (view,) = inspect_stages(model, long_video, frames=[9]).views
    points = view.attention[-1].points
    assert points is not None
    ((roi_features, maps, _),) = recorded[last]
    width = maps.width
    height_px, width_px = view.image.shape[:2]
    stride = 4  # of P2, the level that preset tiny searches
    for proposal, support, n in ((0, 0, 0), (3, 1, 24), (7, 2, 48)):
        query = roi_features[0, proposal].flatten(1)[:, n]
        rows = maps.rows[0, support]
        best = int(F.cosine_similarity(rows, query[None], dim=1).argmax())
        at = np.array([best % width, best // width]) * stride + stride / 2
        at = at * [width_px / 96, height_px / 64]
        found = points[proposal, support, n]
        np.testing.assert_allclose(found, at, atol=1e-3)


def test_support_frames_are_refined_independently(video_set: Any) -> None:
    """SPFA starts as the identity: boxes equal those of detection without support frames."""
    model = predictor()
    encoded = model.encode_frame(video_set.images["long"][0])
    with torch.inference_mode():
        alone = model.detector.detect(encoded, None)
        boxes = inspector_of(model.detector, model.config.model).support_boxes(encoded)
    torch.testing.assert_close(boxes, alone.boxes_xyxy[:, 0])


def test_recording_changes_nothing_and_ends(video_set: Any) -> None:
    model = predictor()
    frames = video_set.images["long"]
    memory = model.remember(frames[:3])
    before = model.detect(frames[3:4], memory)[0]
    parts = [stage.aggregation for stage in model.detector.stages]
    with recording(parts) as recorded:
        during = model.detect(frames[3:4], memory)[0]
    np.testing.assert_array_equal(before.boxes_xyxy, during.boxes_xyxy)
    model.detect(frames[3:4], memory)
    assert [len(recorded[part]) for part in parts] == [1] * len(parts)


@pytest.mark.parametrize("off", ["tfe", "spfa"])
def test_parts_that_are_off(long_video: Path, off: str) -> None:
    (view,) = inspect_stages(predictor(f"model.{off}=off"), long_video, frames=[9]).views
    assert {layer.name for layer in view.attention} == {"TFE", "SPFA"} - {off.upper()}


def test_no_attention_without_supports(long_video: Path) -> None:
    (view,) = inspect_stages(predictor("inference.supports=0"), long_video, frames=[9]).views
    assert view.attention == () and view.supports == ()
