"""CUDA graphs and compilation: when shapes are prepared, padded batches, and failures."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from sparsevod_core.fast import graphed_training
from sparsevod_core.fast.graphed_training import GraphedTraining
from sparsevod_core.fast.recorded import RecordedDetector
from sparsevod_core.structures import Clip, DetectorOutput


class StandIn(nn.Module):
    """Detector that returns the first pixel of each frame and records the batch sizes."""

    def __init__(self, offset: float = 0.0, error: Exception | None = None) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(()))
        self.batches: list[int] = []
        self.offset, self.error = offset, error

    def encode(self, images: torch.Tensor, image_sizes: torch.Tensor) -> Any:
        return images, image_sizes

    def detect(self, encoded: Any, memory: Any) -> DetectorOutput:
        images, sizes = encoded
        if self.error is not None:
            raise self.error
        self.batches.append(len(images))
        value = images[:, 0, 0, 0].float() + self.offset + self.weight
        return DetectorOutput(
            value.view(1, -1, 1, 1),
            value.view(1, -1, 1, 1).expand(-1, -1, -1, 4),
            value.view(-1, 1, 1).expand(-1, -1, 4),
            sizes,
        )

    def forward(self, clip: Clip) -> DetectorOutput:
        return self.detect((clip.images, clip.image_sizes), None)


def batch_of(count: int, size: int = 32) -> tuple[torch.Tensor, torch.Tensor]:
    images = torch.zeros(count, 3, size, size, dtype=torch.uint8)
    images[:, 0, 0, 0] = torch.arange(count)
    return images, torch.tensor([[size, size]] * count)


def values(detector: RecordedDetector, count: int, size: int = 32) -> list[float]:
    with torch.inference_mode():
        output = detector.detect(detector.encode(*batch_of(count, size)), None)
    return output.logits.flatten().tolist()


def test_what_comes_twice_is_quick_and_smaller_batches_are_filled_up() -> None:
    launched, quick = StandIn(), StandIn()
    detector = RecordedDetector(launched, quick, recorded=False)  # type: ignore[arg-type]
    assert values(detector, 4) == [0, 1, 2, 3]
    assert (launched.batches, quick.batches) == ([4], [])
    values(detector, 4)
    assert (launched.batches, quick.batches) == ([4, 4], [4])  # both run once and are compared
    values(detector, 4)
    assert values(detector, 3) == [0, 1, 2]
    assert (launched.batches, quick.batches) == ([4, 4], [4, 4, 4])
    assert values(detector, 6) == [0, 1, 2, 3, 4, 5]  # larger than the prepared batch
    assert launched.batches == [4, 4, 6]


def test_only_so_many_shapes_are_kept() -> None:
    launched, quick = StandIn(), StandIn()
    detector = RecordedDetector(launched, quick, recorded=False)  # type: ignore[arg-type]
    sizes = [32, 64, 96, 128, 160]
    for size in sizes:
        values(detector, 2, size)
        values(detector, 2, size)
    before = len(launched.batches)
    for size in sizes[1:]:
        values(detector, 2, size)
    assert len(launched.batches) == before
    values(detector, 2, sizes[0])  # was dropped for the last size
    assert len(launched.batches) == before + 1


@pytest.mark.parametrize(
    ("quick", "reason"),
    [
        (StandIn(offset=1.0), "the logits of the first stage differ by 1"),
        (StandIn(error=RuntimeError("no compiler\nlong trace")), "no compiler"),
    ],
)
def test_what_fails_is_launched_from_then_on(
    caplog: pytest.LogCaptureFixture, quick: StandIn, reason: str
) -> None:
    launched = StandIn()
    detector = RecordedDetector(launched, quick, recorded=False)  # type: ignore[arg-type]
    for _ in range(4):
        assert values(detector, 2) == [0, 1]
    (record,) = caplog.records
    assert record.getMessage() == f"inference without compilation and CUDA graphs: {reason}"
    assert launched.batches == [2] * 4


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Replace the functions of torch.cuda that need a GPU."""
    state: dict[str, Any] = {"free": 50, "recorded": 0, "error": None}

    def record(part: nn.Module, sample: Any) -> Any:
        if state["error"]:
            raise state["error"]
        state["recorded"] += 1
        return part

    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (state["free"], 100))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda: 0)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda: 0)
    monkeypatch.setattr(torch.cuda, "make_graphed_callables", record)
    return state


def clip_of(size: int = 32) -> Clip:
    images, sizes = batch_of(2, size)
    return Clip(images, images[:, None], sizes)


def train(model: GraphedTraining, *sizes: int) -> None:
    for size in sizes:
        output = model(clip_of(size))
        assert output.logits.flatten().tolist() == [0, 1]
        assert output.image_sizes.tolist() == [[size, size]] * 2


def test_training_records_what_comes_twice(gpu: dict[str, Any]) -> None:
    model = GraphedTraining(StandIn()).train()  # type: ignore[arg-type]
    train(model, 32)
    assert gpu["recorded"] == 0
    train(model, 32, 32, 64)
    assert gpu["recorded"] == 1
    model.eval()
    train(model, 64, 64)
    with torch.no_grad():
        train(model.train(), 64, 64)
    assert gpu["recorded"] == 1
    sizes = range(96, 96 + 32 * 2 * graphed_training.MAX_SHAPES, 32)
    train(model, *sizes, *sizes)
    assert gpu["recorded"] == graphed_training.MAX_SHAPES


def test_training_records_nothing_where_memory_is_short(gpu: dict[str, Any]) -> None:
    model = GraphedTraining(StandIn()).train()  # type: ignore[arg-type]
    gpu["free"] = 20
    train(model, 32, 32, 32)
    assert gpu["recorded"] == 0
    gpu["free"] = 30
    train(model, 32)
    assert gpu["recorded"] == 1


def test_training_that_cannot_be_recorded_is_launched(
    gpu: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    model = GraphedTraining(StandIn()).train()  # type: ignore[arg-type]
    gpu["error"] = RuntimeError("operation not permitted when stream is capturing\nmore")
    train(model, 32, 32, 32)
    (record,) = caplog.records
    assert "operation not permitted when stream is capturing" in record.getMessage()
    assert "more" not in record.getMessage()
