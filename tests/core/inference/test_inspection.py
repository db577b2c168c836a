"""Results of every stage equal the detector's, in pixels of the source."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sparsevod_core.config import Config, load_config
from sparsevod_core.data.sampling import uniform_supports, window_supports
from sparsevod_core.errors import CheckpointError, ConfigError, VideoError
from sparsevod_core.inference import Predictor
from sparsevod_core.inference.inspection import inspect_stages, spread_evenly
from sparsevod_core.model.build import build_detector
from sparsevod_core.structures import Category
from sparsevod_core.video.reader import VideoReader

CATEGORIES = (Category(7, "square"), Category(3, "bar"))


def tiny_config(*overrides: str) -> Config:
    return load_config(
        "tiny",
        overrides=["model.num_classes=2", "data.short_side=64", "data.long_side=96", *overrides],
    )


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    config = tiny_config("inference.supports=3")
    torch.manual_seed(0)
    return Predictor(build_detector(config.model), config, CATEGORIES, device="cpu")


def with_settings(predictor: Predictor, **settings: object) -> Predictor:
    config = predictor.config.replace({f"inference.{k}": v for k, v in settings.items()})
    return Predictor(predictor.detector, config, CATEGORIES, device="cpu")


@pytest.fixture(scope="module")
def long_video(video_set: Any) -> Path:
    return video_set.annotations.parent / "long.mp4"


def test_the_last_stage_is_what_the_predictor_detects(
    predictor: Predictor, long_video: Path
) -> None:
    (view,) = inspect_stages(predictor, long_video, frames=[7]).views
    with VideoReader(long_video) as reader:
        found = list(islice(predictor.plain().frames(reader, clip=False), 8))[7].detections
    best = view.stage_scores[-1].argmax()
    np.testing.assert_allclose(view.stage_boxes[-1, best], found.boxes_xyxy[0], atol=1e-3)
    assert view.stage_scores[-1, best] == pytest.approx(found.scores[0], abs=1e-5)
    assert view.stage_labels[-1, best] == found.labels[0]
    assert view.num_stages == predictor.config.model.num_stages


def test_grid_proposals_lie_where_the_config_put_them(
    predictor: Predictor, long_video: Path
) -> None:
    (view,) = inspect_stages(predictor, long_video, frames=[7]).views
    learned = predictor.detector.proposals.boxes_cxcywh.detach().numpy()
    centre = (view.proposals_xyxy[:, :2] + view.proposals_xyxy[:, 2:]) / 2
    np.testing.assert_allclose(centre, learned[:, :2] * [96, 64], atol=1e-3)


def test_frames_are_spread_and_supports_shared(predictor: Predictor, long_video: Path) -> None:
    found = inspect_stages(predictor, long_video)
    assert found.num_frames == 24
    assert [frame.index for frame in found.frames] == [4, 12, 20]
    assert found.supports == (tuple(uniform_supports(24, 3)),) * 3
    assert [view.title for view in found.views] == [
        "frame 4\n0.16 s",
        "frame 12\n0.48 s",
        "frame 20\n0.80 s",
    ]


@pytest.mark.parametrize(
    ("support", "expected"),
    [
        ("window", [window_supports(2, 24, 3), window_supports(9, 24, 3)]),
        ("causal", [[0, 1], [0, 4, 8]]),
    ],
)
def test_supports_of_each_frame_as_the_setting_says(
    predictor: Predictor, long_video: Path, support: str, expected: list[list[int]]
) -> None:
    changed = with_settings(predictor, support=support)
    found = inspect_stages(changed, long_video, frames=[2, 9])
    assert [list(numbers) for numbers in found.supports] == expected
    # The same as when the entire video is processed.
    with VideoReader(long_video) as reader:
        on_the_way = islice(changed.frames(reader, clip=False), 10)
        videos = {f.frame.index: f.detections for f in on_the_way}
    for frame, view in zip(found.frames, found.views, strict=True):
        best = view.stage_scores[-1].max()
        assert float(best) == pytest.approx(float(videos[frame.index].scores.max()), abs=1e-4)


def test_without_supports_every_frame_is_seen_alone(predictor: Predictor, long_video: Path) -> None:
    alone = with_settings(predictor, supports=0)
    assert inspect_stages(alone, long_video, frames=[5]).supports == ((),)


@pytest.mark.parametrize("number", [24, -1])
def test_a_frame_that_is_not_there_is_named_with_the_count(
    predictor: Predictor, long_video: Path, number: int
) -> None:
    with pytest.raises(
        ConfigError, match=rf"no frame {number} in .*long\.mp4.* 24 frames, 0 to 23"
    ):
        inspect_stages(predictor, long_video, frames=[3, number])


def test_a_missing_video_is_a_video_error(predictor: Predictor, tmp_path: Path) -> None:
    with pytest.raises(VideoError, match="none"):
        inspect_stages(predictor, tmp_path / "none.mp4")


def test_frames_are_spread_over_short_videos_too() -> None:
    assert spread_evenly(300, 3) == [50, 150, 250]
    assert spread_evenly(2, 3) == [0, 1]
    assert spread_evenly(1, 3) == [0]


def test_the_json_has_every_proposal_of_every_stage(predictor: Predictor, long_video: Path) -> None:
    found = inspect_stages(predictor, long_video, frames=[7])
    (view,) = found.views
    # Add a detection, so that there is an object to end on.
    view.stage_scores[-1, 4], view.stage_labels[-1, 4] = 0.9, 1
    content = json.loads(json.dumps(found.to_dict(0.3), allow_nan=False))
    assert content["schema"] == "sparsevod.stages/1"
    assert content["proposal_init"] == "grid"
    assert content["support"] == {"mode": "uniform", "supports": 3, "window_stride": 1}
    assert content["categories"] == [{"id": 7, "name": "square"}, {"id": 3, "name": "bar"}]
    (frame,) = content["frames"]
    assert (frame["index"], frame["time_s"]) == (7, pytest.approx(0.28))
    assert (frame["width"], frame["height"]) == (96, 64)
    assert frame["ends_on"][4] == 4
    assert len(frame["proposals_xyxy"]) == predictor.config.model.num_proposals
    assert [stage["stage"] for stage in frame["stages"]] == [1, 2, 3]
    for number, stage in enumerate(frame["stages"]):
        np.testing.assert_allclose(stage["boxes_xyxy"], view.stage_boxes[number], atol=0.006)
        assert len(stage["scores"]) == predictor.config.model.num_proposals
        assert {*zip(stage["labels"], stage["class_ids"], strict=True)} <= {
            ("square", 7),
            ("bar", 3),
        }
    assert (frame["stages"][-1]["labels"][4], frame["stages"][-1]["class_ids"][4]) == ("bar", 3)
    timeless = replace(found, frames=(replace(found.frames[0], time_s=None),))
    assert timeless.to_dict(0.3)["frames"][0]["time_s"] is None


def test_a_diverged_model_is_an_error(long_video: Path) -> None:
    config = tiny_config()
    broken = build_detector(config.model)
    torch.nn.init.constant_(broken.stages[-1].class_logits.weight, torch.nan)
    with pytest.raises(CheckpointError, match="not finite"):
        inspect_stages(Predictor(broken, config, CATEGORIES, device="cpu"), long_video, frames=[1])
