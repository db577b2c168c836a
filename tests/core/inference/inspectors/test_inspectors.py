"""Views of every system agree with its detections, and attention with where its keys come from."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from tiny_systems import predictor_of

from sparsevod_core.inference import Predictor
from sparsevod_core.inference.inspection import inspect_stages
from sparsevod_core.inference.inspectors import Inspector, inspector_of
from sparsevod_core.inference.inspectors.inspector import OWN, Step, recording
from sparsevod_core.inference.support_frames import supported_frames
from sparsevod_core.model.mega.boxes import to_pixels
from sparsevod_core.model.proposal_aggregation import AttentionAggregation
from sparsevod_core.video.reader import VideoReader

ALL = ["sparsevod", "selsa", "troi", "mamba", "fgfa", "mega", "transvod"]
LAYERS = {
    "selsa": ["FC1", "FC2"],
    "troi": ["TFE", "FC1", "FC2"],
    "mamba": ["FC1", "FC2"],
    "fgfa": ["Map"],
    "mega": ["Global1", "Local1", "Local2", "Local3"],
    "transvod": ["Temporal1", "Temporal2", "Temporal3"],
}


@pytest.fixture(scope="module")
def long_video(video_set: Any) -> Path:
    return video_set.annotations.parent / "long.mp4"


@pytest.mark.parametrize("system", ALL)
def test_the_last_stage_is_what_the_predictor_detects(system: str, long_video: Path) -> None:
    predictor = predictor_of(system)
    (view,) = inspect_stages(predictor, long_video, frames=[6]).views
    with VideoReader(long_video) as reader:
        frames = predictor.frames(reader, clip=False)
        found = list(islice(frames, 7))[6].detections.above(0.0)
    best = np.argsort(-view.stage_scores[-1], kind="stable")[0]
    assert view.stage_scores[-1, best] == pytest.approx(found.scores[0], abs=1e-5)
    np.testing.assert_allclose(view.stage_boxes[-1, best], found.boxes_xyxy[0], atol=1e-2)
    # What is shown is among the detections: the best class of each proposal.
    shown = view.stage_scores[-1][view.stage_scores[-1] > 0]
    assert all(np.abs(found.scores - score).min() < 1e-5 for score in shown[shown > 0.05])


@pytest.mark.parametrize("system", LAYERS)
def test_layers_and_shares(system: str, long_video: Path) -> None:
    found = inspect_stages(predictor_of(system), long_video, frames=[4, 9])
    for frame in json.loads(json.dumps(found.to_dict(0.3), allow_nan=False))["frames"]:
        keys = {key for stage in frame["stages"] for key in stage if key.endswith("_weights")}
        assert keys == {f"{name.lower()}_weights" for name in LAYERS[system]}
        count = len(frame["proposals_xyxy"])
        assert ("proposal_scores" in frame) == (system != "transvod")
        for stage in frame["stages"]:
            for key in keys & stage.keys():
                shares = np.array(stage[key])
                assert shares.shape == (count, len(frame["supports"]) + 1)
                np.testing.assert_allclose(shares.sum(1), 1, atol=0.01)
                strongest = stage.get(key.replace("weights", "strongest"))
                if strongest is not None:
                    assert {one["support"] for one in strongest} <= set(frame["supports"])
    first = found.views[0]
    assert [layer.name for layer in first.attention] == LAYERS[system]
    assert not np.allclose(first.attention[-1].weights[0], first.attention[-1].weights[0].mean())


@pytest.mark.parametrize("system", ["selsa", "mega", "transvod"])
def test_a_frame_detector_has_no_attention(system: str, long_video: Path) -> None:
    settings = ["model.temporal=false", "train.trained=all"]
    found = inspect_stages(predictor_of(system, *settings), long_video, frames=[4])
    (view,) = found.views
    assert view.attention == () and view.supports == ()
    assert view.num_stages == len(found.names.stages)


def test_shares_are_the_weights_of_attend() -> None:
    torch.manual_seed(0)
    aggregation = AttentionAggregation(channels=8, num_heads=1)
    features, others = torch.randn(1, 3, 8), torch.randn(1, 5, 8)
    key, value = aggregation.project(others)
    mask = torch.tensor([True, True, False, True, False])[None, None, None]
    shares = aggregation.shares(features, key, mask)
    assert shares[..., 2].max() == shares[..., 4].max() == 0
    expected = aggregation.attend(features, key, value, mask)
    torch.testing.assert_close(aggregation.output(shares @ value), expected)


def test_dots_of_troi_lie_where_the_support_map_is_most_similar(long_video: Path) -> None:
    predictor = predictor_of("troi")
    detector = predictor.detector
    (view,) = inspect_stages(predictor, long_video, frames=[9]).views
    (tfe,) = (layer for layer in view.attention if layer.name == "TFE")
    with VideoReader(long_video) as reader:
        frames = reader.frames_at([9, view.supports[1].index])
    target, support = (predictor.encode_frame(frame.image) for frame in frames)
    with torch.inference_mode():
        rois = detector.pool(target)[0]
    assert tfe.points is not None
    rows = support.maps[0].flatten(1).t()
    for proposal, n in ((0, 0), (2, 24), (5, 48)):
        query = rois[proposal].flatten(1)[:, n]
        best = int(F.cosine_similarity(rows, query[None], dim=1).argmax())
        width = support.maps.shape[-1]
        at = np.array([best % width, best // width]) * 16 + 8.0
        np.testing.assert_allclose(tfe.points[proposal, 1, n], at, atol=1e-3)


def test_equal_neighbors_of_fgfa_have_equal_weights() -> None:
    predictor = predictor_of("fgfa")
    detector, inspector = predictor.detector, inspector_of_(predictor)
    image = np.random.default_rng(0).integers(0, 255, (64, 96, 3), dtype=np.uint8)
    encoded = predictor.encode_frame(image)
    memory = detector.join([detector.remember(encoded) for _ in range(4)])
    with torch.inference_mode(), recording(inspector.watched) as inputs:
        output = detector.detect(encoded, memory)
    step = step_of(9, [7, 8, 10, 11], encoded, memory, None, output)
    with torch.inference_mode():
        (layer,) = inspector.layers(step, inputs, inspector.stages(step))
    torch.testing.assert_close(layer.weights, torch.full_like(layer.weights, 1 / 5))


@torch.inference_mode()
def test_mamba_knows_the_origin_of_every_row_of_its_bank(long_video: Path) -> None:
    """A row's key is that of the proposal it is said to be, also after random replacements."""
    predictor = predictor_of("mamba")
    detector, inspector = predictor.detector, inspector_of_(predictor)
    keys: dict[tuple[int, int], torch.Tensor] = {}
    aggregation = detector.head.aggregations[1]
    for step, inputs in steps(predictor, inspector, long_video, 8):
        if step.state is None:
            rows = step.memory.layers[1][0][0].unflatten(0, (len(step.supports), -1))
            for number, of_frame in zip(step.supports, rows, strict=True):
                keys |= {(number, m): row for m, row in enumerate(of_frame)}
        else:
            (layer,) = inspector.layers(step, inputs, inspector.stages(step))[1:]
            origins = zip(layer.keys.frames.tolist(), layer.keys.rows.tolist(), strict=True)
            key = torch.stack([keys[origin] for origin in origins])
            count = len(layer.weights)
            ((features,),) = inputs[aggregation.query]
            expected = aggregation.shares(features[:, :count], key[None])[0]
            torch.testing.assert_close(layer.weights, expected)
            assert len(layer.keys.frames) == detector.read_rows
        ((own,),) = inputs[aggregation.key]
        keys |= {(step.number, m): row for m, row in enumerate(aggregation.key(own)[0])}


@torch.inference_mode()
def test_mega_knows_the_origin_of_what_it_reads(long_video: Path) -> None:
    predictor = predictor_of("mega")
    inspector = inspector_of_(predictor)
    boxes = {}
    with VideoReader(long_video) as reader:
        for frame in reader:
            boxes[frame.index] = inspector.support_boxes(predictor.encode_frame(frame.image))[0]
    for step, inputs in steps(predictor, inspector, long_video, 9):
        for layer, relation in zip(
            inspector.layers(step, inputs, inspector.stages(step)), inspector.watched, strict=True
        ):
            ((_, others),) = inputs[relation]
            numbers = [step.number if n == OWN else n for n in layer.keys.frames.tolist()]
            expected = torch.stack(
                [boxes[n][m] for n, m in zip(numbers, layer.keys.rows.tolist(), strict=True)]
            )
            torch.testing.assert_close(to_pixels(others.boxes_xyxy[0]), expected)
            if layer.name.startswith("Local") and step.number > 3:
                assert len(set(numbers)) > 5  # the memory reaches back beyond the window


@torch.inference_mode()
def test_transvod_knows_the_origin_of_the_queries_it_reads(long_video: Path) -> None:
    predictor = predictor_of("transvod")
    detector, inspector = predictor.detector, inspector_of_(predictor)
    with VideoReader(long_video) as reader:
        images = [frame.image for frame in reader.frames_at([2, 5, 11])]
    target, *supports = (predictor.encode_frame(image) for image in images)
    memory = detector.join([detector.remember(one) for one in supports])
    with recording(inspector.watched) as inputs:
        output = detector.detect(target, memory)
    step = step_of(2, [5, 11], target, memory, None, output)
    layers = inspector.layers(step, inputs, inspector.stages(step))
    for layer, module, rows in zip(layers, inspector.watched, (6, 4, 2), strict=True):
        ((_, read, _),) = inputs[module]
        assert layer.weights.shape == (12, 2 * rows)
        torch.testing.assert_close(layer.weights.sum(1), torch.ones(12))
        for n, (frame, row) in enumerate(zip(layer.keys.frames, layer.keys.rows, strict=True)):
            expected = supports[[5, 11].index(int(frame))].queries[0, row]
            torch.testing.assert_close(read[0, n], expected)


# --- helpers -------------------------------------------------------------------------------------


def inspector_of_(predictor: Predictor) -> Inspector:
    return inspector_of(predictor.detector, predictor.config.model)


def step_of(
    number: int,
    supports: list[int],
    encoded: Any,
    memory: Any,
    state: Any,
    output: Any,
    global_supports: Sequence[int] = (),
) -> Step:
    return Step(
        number=number,
        supports=supports,
        global_supports=list(global_supports),
        encoded=encoded,
        memory=memory,
        state=state,
        output=output,
    )


def steps(predictor: Predictor, inspector: Inspector, video: Path, count: int) -> Any:
    """Yield the first steps through a video with what was recorded; follow them."""
    images: dict[int, np.ndarray] = {}
    state = None
    with VideoReader(video) as reader:
        supports = predictor.video_supports(reader, images)
        frames = supported_frames(reader, predictor.supports, images)
        for target in islice(frames, count):
            memory = supports.memory_of([target])
            encoded = predictor.encode_frame(target.frame.image)
            with recording(inspector.watched) as inputs:
                output, after = predictor.detector.advance(encoded, memory, state)
            numbers, anywhere = target.supports, target.global_supports
            step = step_of(target.frame.index, numbers, encoded, memory, state, output, anywhere)
            yield step, inputs
            inspector.follow(step)
            state = after
