"""Motion IoU against its definition and against ImageNet VID's official values."""

from __future__ import annotations

import csv
import gzip
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest

from sparsevod_core.data.motion import motion_iou


def by_definition(boxes: np.ndarray, frames: np.ndarray, tracks: np.ndarray) -> list[float]:
    def iou(a: np.ndarray, b: np.ndarray) -> float:
        overlap = np.maximum(np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2]) + 1, 0).prod()
        return float(overlap / ((a[2:] - a[:2] + 1).prod() + (b[2:] - b[:2] + 1).prod() - overlap))

    values = []
    for i in range(len(boxes)):
        others = [
            iou(boxes[i], boxes[j])
            for j in range(len(boxes))
            if tracks[i] == tracks[j] and 0 < abs(frames[i] - frames[j]) <= 10
        ]
        values.append(float(np.mean(others)) if others else 1.0)
    return values


@pytest.mark.parametrize("seed", range(5))
def test_equals_its_definition_with_gaps_and_a_track_twice_in_a_frame(seed: int) -> None:
    rng = np.random.default_rng(seed)
    frames, tracks = rng.integers(0, 60, 120), rng.integers(0, 4, 120)
    corner = rng.uniform(0, 50, (120, 2))
    boxes = np.concatenate([corner, corner + rng.uniform(1, 60, (120, 2))], axis=1)
    np.testing.assert_allclose(
        motion_iou(boxes, frames, tracks), by_definition(boxes, frames, tracks)
    )


def test_no_boxes_and_a_single_box() -> None:
    nothing = np.zeros(0, np.int64)
    assert motion_iou(np.zeros((0, 4)), nothing, nothing).shape == (0,)
    assert np.isnan(motion_iou(np.ones((1, 4)), np.array([3]), np.array([7]))).all()


@pytest.mark.parametrize(("step", "is_known"), [(1, True), (4, True), (5, False), (10, False)])
def test_motion_is_unknown_where_labels_are_far_apart(step: int, is_known: bool) -> None:
    """A still object is not fast, and a fast one not slow, for lack of labels between."""
    frames = np.arange(0, 60, step)
    boxes = np.tile([10.0, 10.0, 30.0, 30.0], (len(frames), 1))
    values = motion_iou(boxes, frames, np.zeros_like(frames))
    assert (values == 1).all() if is_known else np.isnan(values).all()


def test_a_gap_in_a_dense_track_is_bridged_as_in_fgfa() -> None:
    frames = np.array([0, 1, 7, 30])
    boxes = np.tile([10.0, 10.0, 30.0, 30.0], (4, 1))
    values = motion_iou(boxes, frames, np.zeros_like(frames))
    np.testing.assert_array_equal(values, [1, 1, 1, np.nan])


def test_official_values(shared_dir: Path) -> None:
    """All videos with one object: their tracks need no track ids."""
    videos: dict[str, list[list[float]]] = defaultdict(list)
    columns = ("frame", "xmin", "ymin", "xmax", "ymax", "motion_iou")
    with gzip.open(shared_dir / "data" / "ilsvrc" / "vid_val_gt_all.csv.gz", "rt") as file:
        for row in csv.DictReader(file):
            videos[row["video"]].append([float(row[column]) for column in columns])
    equal = boxes = single = 0
    for rows in map(np.array, videos.values()):
        frames = rows[:, 0].astype(np.int64)
        if len(set(frames)) < len(frames):
            continue
        single += 1
        boxes += len(rows)
        computed = motion_iou(rows[:, 1:5], frames, np.zeros_like(frames))
        equal += int((np.abs(computed - rows[:, 5]) < 1e-4).sum())
    assert (single, boxes) == (336, 100_901)
    assert equal >= 100_882
