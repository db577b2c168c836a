"""Every system in the predictor: detections do not depend on how the work is cut."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
from torch import nn

from sparsevod_core.config import Config, System, load_config
from sparsevod_core.errors import ConfigError, VideoError
from sparsevod_core.inference import Predictor, detect_video, support_frames
from sparsevod_core.inference.journal import Journal
from sparsevod_core.inference.support_frames import SupportPlan
from sparsevod_core.model.build import build_detector
from sparsevod_core.model.two_stage.region_proposals import Proposals, RegionProposals
from sparsevod_core.model.video_detector import VideoDetector
from sparsevod_core.structures import Category, Frame, FrameDetections
from sparsevod_core.video.writer import VideoWriter

SYSTEMS = get_args(System)
ORDERED = ("mamba", "mega")
TWO_STAGE = ("selsa", "troi", "mamba", "mega", "fgfa")
LENGTH = 8
SIZES = {
    "model.num_proposals": 12,
    "model.num_classes": 2,
    "model.faster_rcnn.candidates": 100,
    "model.faster_rcnn.support_proposals": 6,
    "model.faster_rcnn.head_dim": 32,
    "model.mamba.bank_rows": 40,
    "model.mamba.read_rows": 20,
    "model.mega.advanced_proposals": 3,
    "model.mega.memory_frames": 3,
    "model.fgfa.flow": "flownet",
    "model.fgfa.flow_width": 4,
    "model.transvod.support_queries": [6, 4, 3],
    "data.short_side": 32,
    "data.long_side": 48,
    "inference.supports": 4,
    "inference.global_supports": 3,
}


class KilledError(Exception):
    """End of a run that a test cuts off."""


class Footage:
    """Frames in memory: a square that moves over a texture.

    Args:
        length: Number of frames.
        break_after: Number of frames after which reading breaks off.

    Attributes:
        num_read: Number of frames read by their numbers.
    """

    def __init__(self, length: int = LENGTH, break_after: int | None = None) -> None:
        self.length, self.break_after, self.num_read = length, break_after, 0

    def num_frames(self) -> int:
        return self.length

    def frames_at(self, indices: Sequence[int]) -> list[Frame]:
        self.num_read += len(indices)
        return [Frame(index, None, picture(index)) for index in indices]

    def __iter__(self) -> Iterator[Frame]:
        for index in range(self.length):
            if index == self.break_after:
                raise VideoError("breaks off")
            yield Frame(index, None, picture(index))


@cache
def picture(index: int) -> np.ndarray:
    texture = np.random.default_rng(2).integers(0, 200, (8, 12, 3), dtype=np.uint8)
    image = texture.repeat(8, axis=0).repeat(8, axis=1)
    x, y = 2 + 3 * index % 80, 4 + index % 40
    image[y : y + 16, x : x + 16] = (230, 60, 40)
    return image


def settings(system: str, **inference: object) -> Config:
    overrides = {f"inference.{name}": value for name, value in inference.items()}
    return load_config("tiny", system=system).replace(SIZES | overrides)


@cache
def detector(system: str) -> VideoDetector:
    """A very small detector with random weights to which support frames make a difference."""
    torch.manual_seed(1)
    model = build_detector(settings(system).model)
    for name, parameter in model.named_parameters():
        if parameter.ndim > 1 and "class_logits" in name:
            nn.init.normal_(parameter, std=0.3)
        elif parameter.ndim > 1 and "aggregation" in name:
            nn.init.normal_(parameter, std=0.1)
    return model


def predictor(system: str, **inference: object) -> Predictor:
    categories = (Category(7, "square"), Category(3, "bar"))
    return Predictor(detector(system), settings(system, **inference), categories, device="cpu")


def same(some: Sequence[FrameDetections], others: Sequence[FrameDetections]) -> bool:
    """Return True if all detections are the same, bit for bit."""
    return [frame.index for frame in some] == [frame.index for frame in others] and all(
        np.array_equal(one.boxes_xyxy, other.boxes_xyxy)
        and np.array_equal(one.scores, other.scores)
        and np.array_equal(one.labels, other.labels)
        for one, other in zip(some, others, strict=True)
    )


def require_finite(frames: Sequence[FrameDetections], length: int) -> None:
    assert len(frames) == length
    for frame in frames:
        assert np.isfinite(frame.scores).all() and np.isfinite(frame.boxes_xyxy).all()


def modes(system: str) -> list[dict[str, object]]:
    """Return settings of different support modes of a system."""
    choices: list[dict[str, object]] = [
        {"support": "mega"} if system == "mega" else {"support": "uniform"},
        {"support": "window", "window_stride": 2},
        {"support": "causal"},
    ]
    return choices


@pytest.mark.parametrize("system", SYSTEMS)
def test_the_result_depends_on_the_supports_but_not_on_the_batch(system: str) -> None:
    alone = list(predictor(system, supports=0, global_supports=0).frames(Footage()))
    assert sum(len(frame.scores) for frame in alone) > LENGTH
    for mode in modes(system):
        one, three = (predictor(system, batch=batch, **mode) for batch in (1, 3))
        assert (one.batch, three.batch) == (1, 1 if system in ORDERED else 3)
        found = list(one.frames(Footage()))
        if (system, mode["support"]) != ("mamba", "causal"):  # its bank is the past in any case
            assert not same(found, alone), mode
        assert same(found, list(three.frames(Footage()))), mode


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("system", ["sparsevod", "transvod"])
def test_few_strided_supports_in_batches(system: str, batch: int) -> None:
    """The last targets of a batch need frames that its first ones do not."""
    found = [
        list(predictor(system, batch=size, support="strided", supports=2).frames(Footage()))
        for size in (1, batch)
    ]
    assert same(*found)


@pytest.mark.parametrize("system", SYSTEMS)
def test_a_resumed_video_goes_on_with_the_same_detections(system: str) -> None:
    for mode in modes(system):
        predict = predictor(system, batch=3, **mode)
        whole = list(predict.frames(Footage()))
        resumed = [frame.detections for frame in whole[:5]]
        assert same(whole, list(predict.frames(Footage(), resumed=resumed))), mode


@pytest.mark.parametrize("system", SYSTEMS)
def test_a_video_leaves_nothing_for_the_next_one(system: str) -> None:
    predict = predictor(system)
    lengths = (4, 1, 3)
    found = list(predict.videos([Footage(length) for length in lengths]))
    for number, length in enumerate(lengths):
        of_video = [frame for video, frame in found if video == number]
        assert same(of_video, list(predict.frames(Footage(length))))


@pytest.mark.parametrize("system", SYSTEMS)
def test_videos_that_are_shorter_than_the_window(system: str) -> None:
    for mode in modes(system):
        for supports, length in ((1, 2), (9, 1), (9, 3)):
            predict = predictor(system, supports=supports, **mode)
            require_finite(list(predict.frames(Footage(length))), length)


@pytest.mark.parametrize("system", SYSTEMS)
def test_all_frames_before_a_break_are_detected(system: str) -> None:
    for mode in modes(system):
        found: list[FrameDetections] = []
        with pytest.raises(VideoError, match="breaks off"):
            found.extend(predictor(system, **mode).frames(Footage(break_after=4)))
        require_finite(found, 4)


@pytest.mark.parametrize("system", SYSTEMS)
def test_frame_by_frame(system: str) -> None:
    """`remember` and `advance` give the detections of `frames`; only free systems have `detect`."""
    predict = predictor(system, support="uniform")
    whole = list(predict.frames(Footage()))
    numbers = support_frames.support_numbers([0], LENGTH, predict.supports)[0].supports
    memory = predict.remember([picture(number) for number in numbers])
    images = [picture(number) for number in range(LENGTH)]
    first, state = predict.advance(images[:4], memory)
    for _ in range(2):  # a state is a value: going on from it again gives the same
        last, _ = predict.advance(images[4:], state)
        for frame, found in zip(whole, [*first, *last], strict=True):
            np.testing.assert_allclose(frame.scores, found.scores, atol=2e-5)
            np.testing.assert_allclose(frame.boxes_xyxy, found.boxes_xyxy, atol=2e-2)
    assert len(predict.detect(images[:2], None)) == 2
    if system in ORDERED:
        with pytest.raises(
            ConfigError, match=f"{system} detects in the frames of a video in order"
        ):
            predict.detect(images[:2], memory)
    else:
        assert len(predict.detect(images[:2], memory)) == 2


@pytest.mark.parametrize("count", [0, 1])
@pytest.mark.parametrize("system", TWO_STAGE)
def test_frames_with_few_proposals(
    system: str, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every second frame has `count` proposals instead of N."""
    propose: Callable[..., Proposals] = RegionProposals.proposals
    number = 0

    def few(self: RegionProposals, *arguments: Any) -> Proposals:
        nonlocal number
        number += 1
        found = propose(self, *arguments)
        counts = found.counts.clamp(max=count) if number % 2 else found.counts
        kept = torch.arange(found.boxes.shape[1]) < counts[:, None]
        return replace(
            found, boxes=found.boxes * kept[..., None], scores=found.scores * kept, counts=counts
        )

    monkeypatch.setattr(RegionProposals, "proposals", few)
    found = list(predictor(system).frames(Footage(4)))
    require_finite(found, 4)
    assert min(len(frame.scores) for frame in found) <= 2 * count


@pytest.mark.parametrize(("system", "mode"), [("mega", "mega"), ("transvod", "strided")])
def test_the_memory_of_frames_that_come_again_is_limited(
    system: str, mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    length = 24
    predict = predictor(system, support=mode)
    roomy = list(predict.frames(Footage(length)))
    monkeypatch.setattr(support_frames, "KEPT_BYTES", 1)
    predict = predictor(system, support=mode)
    tight, footage = [], Footage(length)
    for batch in predict._batches(footage, iter(())):
        read = predict._launch(batch.fill(), True)
        tight += [frame for _, frame in read()]
        supports = batch.supports
        assert len(supports._memories) <= predict.num_supports + 1  # the window has an odd size
        assert len(supports._encodings) <= predict.num_supports + 1
        assert len(supports._images) <= 40  # global frames are read 32 at a time
    assert same(roomy, tight)
    assert footage.num_read <= 8 * length


def test_resumed_frames_read_no_supports() -> None:
    predict = predictor("transvod", support="strided")
    whole = list(predict.frames(Footage()))
    footage = Footage()
    resumed = [frame.detections for frame in whole]
    assert same(whole, list(predict.frames(footage, resumed=resumed)))
    assert footage.num_read == 0


def test_the_plan_counts_the_global_frames_that_are_used() -> None:
    counts = {}
    for mode in ("uniform", "window", "strided", "causal", "mega"):
        predict = predictor("mega", support=mode)
        counts[mode] = predict.num_supports
        assert ("global_supports" in predict.supports.header) == (mode in ("causal", "mega"))
    assert counts == {"uniform": 4, "window": 4, "strided": 4, "causal": 7, "mega": 7}


def test_one_frame_at_a_time_where_every_target_has_its_own_supports() -> None:
    plan = SupportPlan(mode="uniform", supports=4)
    assert plan.is_shared and replace(plan, mode="window", window_stride=3).is_shared
    for mode in ("window", "causal", "strided", "mega"):
        assert not replace(plan, mode=mode).is_shared
        assert replace(plan, mode=mode, supports=0).is_shared


def test_causal_global_frames_without_neighbors() -> None:
    found = list(predictor("mega", support="causal", supports=0).frames(Footage()))
    neighbors = list(predictor("mega", support="causal", supports=1).frames(Footage()))
    assert same(found, neighbors)  # the target itself is always in its window


@pytest.mark.parametrize(
    ("system", "overrides", "message"),
    [
        ("selsa", {"inference.support": "mega"}, "inference.support=mega: expected model.system"),
        ("mega", {"inference.window_stride": 3}, "the window of inference.support=mega"),
        ("troi", {"data.support_choice": "mega"}, "data.support_choice=mega: expected model"),
    ],
)
def test_settings_that_contradict_each_other(
    system: str, overrides: dict[str, object], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        load_config("tiny", system=system).replace(overrides)


@pytest.mark.parametrize("system", ORDERED)
@pytest.mark.parametrize("stop", [1, 6])
def test_a_run_that_was_cut_off_gives_the_same_file(
    system: str, stop: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    video = tmp_path / "video.mp4"
    with VideoWriter(video, 96, 64, frame_rate=Fraction(25)) as writer:
        for number in range(LENGTH):
            writer.write(picture(number))
    whole, cut = {"json": tmp_path / "whole" / "a.json"}, {"json": tmp_path / "cut" / "a.json"}
    detect_video(predictor(system), video, None, results=whole)

    write = Journal.write

    def killed(self: Journal, detections: Any) -> None:
        if self.num_frames == stop:
            raise KilledError
        write(self, detections)

    with monkeypatch.context() as patch:
        patch.setattr(Journal, "write", killed)
        with pytest.raises(KilledError):
            detect_video(predictor(system), video, None, results=cut)
    config = settings(system)
    for name, value in {"seed": 3, "data.resize": "opencv", "data.pad_multiple": 64}.items():
        other = Predictor(
            detector(system),
            config.replace({name: value}),
            predictor(system).categories,
            device="cpu",
        )
        with pytest.raises(ConfigError, match=f"made with {name.rpartition('.')[2]}"):
            detect_video(other, video, None, results=cut, resume=True)
    detect_video(predictor(system), video, None, results=cut, resume=True)
    assert cut["json"].read_bytes() == whole["json"].read_bytes()
    assert len(json.loads(cut["json"].read_text())["frames"]) == LENGTH
