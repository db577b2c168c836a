"""Batches prepared ahead: the device always has its next one, and results do not change."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pytest
import torch

from sparsevod_core.config import load_config
from sparsevod_core.data.sampling import CausalSampler, uniform_supports, window_supports
from sparsevod_core.errors import CheckpointError, DataError, VideoError
from sparsevod_core.inference import Predictor
from sparsevod_core.inference.intake import InputBatch, Intake
from sparsevod_core.inference.transfers import PlainTransfers
from sparsevod_core.model.video_detector import VideoDetector
from sparsevod_core.structures import Category, Detections, Frame

CPU = torch.device("cpu")


class Footage:
    """Frames whose color is their number, counted from `first`; reads are logged."""

    def __init__(self, log: list[Any], length: int, *, first: int = 0, breaks: bool = False):
        self.log, self.length, self.first, self.breaks = log, length, first, breaks

    def num_frames(self) -> int:
        return self.length

    def frames_at(self, indices: Sequence[int]) -> list[Frame]:
        return [self._frame(index) for index in indices]

    def __iter__(self) -> Iterator[Frame]:
        for index in range(self.length):
            self.log.append(("read", self.first + index))
            yield self._frame(index)
        if self.breaks:
            raise VideoError("breaks off")

    def _frame(self, index: int) -> Frame:
        return Frame(index, None, np.full((32, 32, 3), self.first + index, np.uint8))


class Temporal(VideoDetector):
    uses_supports = True

    def join(self, memories: Sequence[int], global_memories: Sequence[int] = ()) -> Any:
        return list(memories) or None


class Watched(Predictor):
    """Logs launches and waits; detects one box per frame, labeled with the frame's number."""

    def __init__(self, log: list[Any], ahead: int, **inference: Any) -> None:
        overrides = [f"inference.{name}={value}" for name, value in inference.items()]
        config = load_config("tiny", overrides=["model.num_classes=1", *overrides])
        detector: Any = Temporal()
        super().__init__(detector, config, [Category(1, "one")], device="cpu")
        self.intake = Intake(config.data, PlainTransfers(CPU), where="device", ahead=ahead)
        self.log = log

    def encode_frame(self, frame: Any) -> Any:
        return frame

    def remember_frame(self, encoded: Any) -> Any:
        return int(encoded[0, 0, 0])

    def _start(
        self, inputs: InputBatch, memory: Any, *, clip: bool, batch: Any = None
    ) -> Callable[[], list[Detections]]:
        images, _ = inputs.load()
        numbers = images[:, 0, 0, 0].tolist()
        self.log.append(("launch", numbers, memory))

        def wait() -> list[Detections]:
            self.log.append(("wait", numbers))
            return [found(number) for number in numbers]

        return wait


def found(number: int) -> Detections:
    return Detections(np.zeros((1, 4), np.float32), np.ones(1, np.float32), np.array([number]))


def supports_of(log: list[Any]) -> dict[int, Any]:
    return {number: entry[2] for entry in log if entry[0] == "launch" for number in entry[1]}


def without(log: list[Any], kind: str) -> list[tuple[str, list[int]]]:
    return [entry[:2] for entry in log if entry[0] != kind]


@pytest.mark.parametrize("batch", [1, 3, 50])
@pytest.mark.parametrize("support", ["uniform", "window", "causal"])
def test_frames_supports_and_batches_are_the_same(support: str, batch: int) -> None:
    launched = []
    for ahead in (0, 1):
        log: list[Any] = []
        model = Watched(log, ahead, support=support, supports=4, window_stride=2, batch=batch)
        frames = list(model.frames(Footage(log, 20)))
        assert [one.frame.index for one in frames] == list(range(20))
        assert [int(one.labels[0]) for one in frames] == list(range(20))
        launched.append([entry for entry in log if entry[0] == "launch"])
    assert launched[0] == launched[1]
    sampler = CausalSampler(4)
    for target in range(20):
        wanted = {
            "uniform": uniform_supports(20, 4),
            "window": window_supports(target, 20, 4, 2),
            "causal": sampler.supports(),
        }[support]
        assert (supports_of(log)[target] or []) == wanted
        sampler.add(target)


def test_the_next_batch_is_launched_before_one_is_waited_for() -> None:
    log: list[Any] = []
    model = Watched(log, 1, supports=0, batch=2)
    for one in model.frames(Footage(log, 7)):
        log.append(("given", one.frame.index))
    order = [entry[:2] for entry in log if entry[0] in ("launch", "wait")]
    assert order == [
        ("launch", [0, 1]),
        ("launch", [2, 3]),
        ("wait", [0, 1]),
        ("launch", [4, 5]),
        ("wait", [2, 3]),
        ("launch", [6]),
        ("wait", [4, 5]),
        ("wait", [6]),
    ]
    # At most two batches are launched and one is filled ahead.
    assert log.index(("read", 6)) > log.index(("given", 1))


@pytest.mark.parametrize(("support", "is_live"), [("causal", False), ("uniform", True)])
def test_a_frame_is_yielded_before_the_next_is_read(support: str, is_live: bool) -> None:
    log: list[Any] = []
    supports = 2 if support == "causal" else 0  # a stream has no others
    model = Watched(log, 1, support=support, supports=supports, batch=1)
    for one in model.frames(Footage(log, 4), is_live=is_live):
        log.append(("given", one.frame.index))
    order = [entry[:2] for entry in log if entry[0] in ("read", "given")]
    assert order == [entry for n in range(4) for entry in (("read", n), ("given", n))]


def test_the_next_video_is_begun_before_the_last_batch_of_one_is_waited_for() -> None:
    log: list[Any] = []
    model = Watched(log, 1, supports=2, batch=3)
    videos = [Footage(log, 4), Footage(log, 2, first=10), Footage(log, 4, first=20)]
    frames = list(model.videos(videos))
    assert [(video, one.frame.index) for video, one in frames] == [
        *((0, index) for index in range(4)),
        *((1, index) for index in range(2)),
        *((2, index) for index in range(4)),
    ]
    assert [int(one.labels[0]) for _, one in frames] == [0, 1, 2, 3, 10, 11, 20, 21, 22, 23]
    assert supports_of(log)[3] == uniform_supports(4, 2)
    assert supports_of(log)[11] == [10 + n for n in uniform_supports(2, 2)]
    order = [entry[:2] for entry in log]
    assert order.index(("launch", [10, 11])) < order.index(("wait", [3]))
    assert order.index(("read", 23)) < order.index(("wait", [10, 11]))


@pytest.mark.parametrize("ahead", [0, 1])
@pytest.mark.parametrize("batch", [1, 4])
def test_all_frames_before_a_break_are_yielded(ahead: int, batch: int) -> None:
    model = Watched([], ahead, supports=0, batch=batch)
    given = []
    with pytest.raises(VideoError, match="breaks off"):
        for one in model.frames(Footage([], 9, breaks=True)):
            given.append(one.frame.index)
    assert given == list(range(9))


@pytest.mark.parametrize("ahead", [0, 1])
def test_batches_before_a_failing_one_are_yielded(
    ahead: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The batch fails while it is made, while it is launched, or while it is read."""
    model = Watched([], ahead, supports=0, batch=2)
    make_batch, start = model.intake.batch, model._start

    def failing_batch(frames: Sequence[np.ndarray]) -> InputBatch:
        if frames[0][0, 0, 0] == 4:
            raise DataError("no frame")
        return make_batch(frames)

    def failing_start(
        inputs: InputBatch, memory: Any, *, clip: bool, batch: Any = None
    ) -> Callable[[], list[Detections]]:
        if inputs.frames[0][0, 0, 0] == 4:
            raise MemoryError
        return start(inputs, memory, clip=clip)

    def failing_read(
        inputs: InputBatch, memory: Any, *, clip: bool, batch: Any = None
    ) -> Callable[[], list[Detections]]:
        def read() -> list[Detections]:
            raise CheckpointError("not finite")

        read_well = start(inputs, memory, clip=clip)
        return read if inputs.frames[0][0, 0, 0] == 4 else read_well

    for where, name, failing, error in (
        (model.intake, "batch", failing_batch, DataError),
        (model, "_start", failing_start, MemoryError),
        (model, "_start", failing_read, CheckpointError),
    ):
        given: list[int] = []
        with monkeypatch.context() as patch, pytest.raises(error):
            patch.setattr(where, name, failing)
            given.extend(one.frame.index for one in model.frames(Footage([], 9)))
        assert given == [0, 1, 2, 3]


@pytest.mark.parametrize("ahead", [0, 1])
@pytest.mark.parametrize("support", ["uniform", "window"])
def test_resumed_frames_are_not_computed(support: str, ahead: int) -> None:
    log: list[Any] = []
    model = Watched(log, ahead, support=support, supports=2, batch=3)
    resumed = [found(100 + number) for number in range(5)]
    frames = list(model.frames(Footage(log, 8), resumed=iter(resumed)))
    labels = [int(one.labels[0]) for one in frames]
    if support == "uniform":  # batches of three: the second is resumed in part
        assert labels == [100, 101, 102, 3, 4, 5, 6, 7]
    else:
        assert labels == [100, 101, 102, 103, 104, 5, 6, 7]
    assert all(one.categories == model.categories for one in frames[:3])
    everything: list[Any] = []
    list(Watched(everything, 0, support=support, supports=2, batch=3).frames(Footage([], 8)))
    assert supports_of(log).items() <= supports_of(everything).items()


def test_frames_can_be_requested_in_inference_mode() -> None:
    with torch.inference_mode():
        frames = list(Watched([], 1, supports=0, batch=2).frames(Footage([], 5)))
    assert [int(one.labels[0]) for one in frames] == list(range(5))
