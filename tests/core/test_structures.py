"""Detections: iterating, selecting, printing."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
import torch

from sparsevod_core.structures import Category, Detection, Detections, Frame, FrameDetections

CATEGORIES = (Category(7, "car"), Category(3, "dog"))


def detections(count: int = 4, categories: tuple[Category, ...] = CATEGORIES) -> Detections:
    boxes = np.arange(4 * count, dtype=np.float32).reshape(count, 4)
    scores = np.linspace(0.9, 0.1, count).astype(np.float32)
    return Detections(boxes, scores, np.arange(count) % 2, categories)


def frame_detections(time_s: Fraction | None = Fraction(1, 25)) -> FrameDetections:
    return FrameDetections(Frame(3, time_s, np.zeros((8, 8, 3), np.uint8)), detections())


def test_iterating_gives_single_detections() -> None:
    found = list(detections(2))
    assert found == [detections(2)[0], detections(2)[1]]
    assert found[1] == Detection((4.0, 5.0, 6.0, 7.0), pytest.approx(0.1), 1, "dog", 3)
    assert isinstance(found[0].score, float) and isinstance(found[0].label, int)
    assert str(found[0]) == "car 0.90 at (0.0, 1.0, 2.0, 3.0)"
    assert [one.class_name for one in frame_detections()] == ["car", "dog", "car", "dog"]


@pytest.mark.parametrize("index", [1, -3, np.int64(1), np.array(1), torch.tensor(1)])
def test_an_integer_selects_one(index: int) -> None:
    assert detections()[index] == Detection(
        (4, 5, 6, 7), float(detections().scores[1]), 1, "dog", 3
    )
    assert frame_detections()[index] == detections()[index]


@pytest.mark.parametrize(
    "index",
    [
        slice(0, 4, 2),
        [0, 2],
        [True, False, True, False],
        np.array([0, 2]),
        np.array([True, False, True, False]),
        torch.tensor([0, 2]),
        torch.tensor([True, False, True, False]),
    ],
)
def test_slices_masks_and_indices_select_several(index: slice) -> None:
    selected = detections()[index]
    assert isinstance(selected, Detections)
    assert selected.boxes_xyxy.tolist() == [[0, 1, 2, 3], [8, 9, 10, 11]]
    assert selected.labels.tolist() == [0, 0]
    assert selected.class_names == ["car", "car"]
    of_frame = frame_detections()[index]
    assert isinstance(of_frame, FrameDetections)
    assert (of_frame.index, of_frame.scores.tolist()) == (3, selected.scores.tolist())


def test_nothing_selected() -> None:
    assert len(detections()[[]]) == len(detections()[:0]) == len(detections().above(0.95)) == 0
    assert list(detections(0)) == []
    with pytest.raises(IndexError):
        detections()[4]


def test_above_selects_by_score() -> None:
    assert len(detections().above(0.5)) == len(frame_detections().above(0.5)) == 2


def test_it_prints_what_it_contains() -> None:
    assert repr(detections(0)) == "Detections(0)"
    assert repr(detections(1)) == "Detections(1: car 0.90 at (0.0, 1.0, 2.0, 3.0))"
    assert repr(detections()).endswith("car 0.37 at (8.0, 9.0, 10.0, 11.0); 1 more)")
    found = frame_detections()
    assert repr(found) == f"FrameDetections(frame 3 at 0.040 s, {detections()!r})"
    assert repr(frame_detections(None)).startswith("FrameDetections(frame 3, Detections(4: car")
    assert (found.index, found.time_s, len(found)) == (3, Fraction(1, 25), 4)


def test_categories_are_optional() -> None:
    unnamed = detections(2, ())
    assert unnamed.class_names == ["class 0", "class 1"]
    assert unnamed[1].class_id is None
