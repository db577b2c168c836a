"""What is recorded when; the recording itself needs a GPU."""

from __future__ import annotations

import logging
from types import SimpleNamespace

import pytest
import torch

from sparsevod_core.fast import GraphedDetector, cuda_graph


class Launched:
    """Logits are the mean of the frames; remembers how often it was called."""

    calls = 0

    def detect(self, images, image_sizes, bank):
        self.calls += 1
        return SimpleNamespace(logits=images.float().mean() + (0 if bank is None else bank.shift))


class Recording:
    made = 0
    error: Exception | None = None
    wrong_by = 0.0

    def __init__(self, detector, images, image_sizes, bank):
        type(self).made += 1
        if self.error is not None:
            raise self.error
        self.frame = (images.shape, id(bank))
        self.detector, self.bank = detector, bank

    def replay(self, images, image_sizes):
        self.detector.calls -= 1  # nothing is launched
        found = self.detector.detect(images, image_sizes, self.bank)
        return SimpleNamespace(logits=found.logits + self.wrong_by)


@pytest.fixture
def graphed(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(cuda_graph, "_Recording", Recording)
    for name, value in (("made", 0), ("error", None), ("wrong_by", 0.0)):
        monkeypatch.setattr(Recording, name, value)
    launched = Launched()
    return GraphedDetector(launched), launched


def run(graphed, bank, shades, side=8):
    sizes = torch.tensor([[side, side]])
    return [
        graphed.detect(torch.full((1, 3, side, side), float(shade)), sizes, bank).logits.item()
        for shade in shades
    ]


def test_frames_of_one_video_are_launched_twice_and_then_replayed(graphed) -> None:
    model, launched = graphed
    bank = SimpleNamespace(shift=100)
    assert run(model, bank, [1, 2, 3, 4, 5]) == [101, 102, 103, 104, 105]
    assert (launched.calls, Recording.made) == (2, 1)
    other = SimpleNamespace(shift=200)  # the next video
    assert run(model, other, [1, 2, 3]) == [201, 202, 203]
    assert (launched.calls, Recording.made) == (4, 2)
    run(model, other, [1, 2, 3], side=16)
    assert (launched.calls, Recording.made) == (6, 3)


def test_supports_that_change_with_every_frame_are_not_recorded(graphed) -> None:
    model, launched = graphed
    banks = [SimpleNamespace(shift=shift) for shift in range(4)]
    assert [run(model, bank, [1])[0] for bank in banks] == [1, 2, 3, 4]
    assert (launched.calls, Recording.made) == (4, 0)


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("error", RuntimeError("capture failed\nmore"), "capture failed"),
        ("wrong_by", 0.5, "differ"),
    ],
)
def test_a_recording_that_does_not_work_is_not_used(
    graphed, name, value, says, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    model, launched = graphed
    monkeypatch.setattr(Recording, name, value)
    with caplog.at_level(logging.WARNING):
        assert run(model, None, [1, 2, 3, 4]) == [1, 2, 3, 4]
    assert launched.calls == 4 and Recording.made == 1
    assert says in caplog.text and "more" not in caplog.text
