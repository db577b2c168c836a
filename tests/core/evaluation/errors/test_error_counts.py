"""Assignment of detections above a score of 0.3 to boxes, and errors by class and by frame."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sparsevod_core.evaluation.errors.confusion import Confusion
from sparsevod_core.evaluation.errors.frame_errors import ErrorCounts, FrameErrors, Outcome
from sparsevod_core.evaluation.metrics.detection_table import DetectionTable
from sparsevod_core.evaluation.metrics.ground_truth import GroundTruth

CATEGORIES = [{"id": 5, "name": "cat"}, {"id": 2, "name": "dog"}, {"id": 9, "name": "fox"}]
CAT, DOG, FOX = range(3)

Box = tuple[int, int, list[float]]  # image, category, xywh


def make_truth(
    folder: Path, num_images: int, boxes: list[Box], crowds: tuple[int, ...] = ()
) -> Any:
    annotations = [
        {
            "id": index,
            "image_id": 10 * image,
            "category_id": CATEGORIES[category]["id"],
            "bbox": box,
            "iscrowd": int(index in crowds),
        }
        for index, (image, category, box) in enumerate(boxes)
    ]
    images = [{"id": 10 * image} for image in range(num_images)]
    content = {"images": images, "categories": CATEGORIES, "annotations": annotations}
    (folder / "truth.json").write_text(json.dumps(content))
    return GroundTruth.load(folder / "truth.json")


def make_table(num_images: int, found: list[tuple[int, int, list[float], float]]) -> DetectionTable:
    images, categories, boxes, scores = zip(*found, strict=True) if found else ((), (), (), ())
    return DetectionTable.grouped(
        num_images,
        np.array(images, dtype=np.int32),
        np.array(categories, dtype=np.int16),
        np.array(boxes, dtype=np.float64).reshape(-1, 4),
        np.array(scores, dtype=np.float64),
    )


LEFT, RIGHT = [0.0, 0, 10, 10], [50.0, 0, 10, 10]


@pytest.fixture
def case(tmp_path: Path) -> tuple[GroundTruth, DetectionTable]:
    """A cat detected as a fox and a missed dog; a dog detected twice; an image without boxes."""
    truth = make_truth(tmp_path, 3, [(0, CAT, LEFT), (0, DOG, RIGHT), (1, DOG, LEFT)])
    table = make_table(
        3,
        [
            (0, CAT, [0, 0, 10, 9], 0.8),  # IoU 0.9, but the fox has the higher score
            (0, FOX, [0, 0, 10, 6], 0.9),  # IoU 0.6
            (0, DOG, [50, 0, 10, 10], 0.3),  # not above 0.3
            (1, DOG, [0, 0, 10, 5], 0.5),  # IoU 0.5, just enough
            (1, DOG, [0, 0, 10, 4.9], 0.6),  # not enough
            (2, FOX, LEFT, 0.31),
        ],
    )
    return truth, table


@pytest.fixture
def errors(case: tuple[GroundTruth, DetectionTable]) -> FrameErrors:
    return FrameErrors(*case)


def test_the_highest_score_takes_the_box_whatever_its_class(errors: FrameErrors) -> None:
    assert errors.rows.tolist() == [0, 1, 3, 4, 5]
    assert errors.box_of.tolist() == [-1, 0, 2, -1, -1]
    assert errors.is_missed.tolist() == [False, True, False]


def test_errors_are_counted_by_frame(errors: FrameErrors) -> None:
    counts = [errors.counts_of(image) for image in range(3)]
    assert counts == [ErrorCounts(1, 1, 1), ErrorCounts(0, 0, 1), ErrorCounts(0, 0, 1)]
    assert errors.num_boxes.tolist() == [2, 1, 0]


def test_outcomes_list_errors_before_correct_detections(errors: FrameErrors) -> None:
    assert errors.outcomes(0) == [
        Outcome("missed", true="dog", true_xywh=(50, 0, 10, 10)),
        Outcome("wrong_class", "cat", "fox", 0.9, (0, 0, 10, 10), (0, 0, 10, 6)),
        Outcome("false_alarm", predicted="cat", score=0.8, found_xywh=(0, 0, 10, 9)),
    ]
    assert [one.kind for one in errors.outcomes(1)] == ["false_alarm", "correct"]


def test_matrix_rows_are_true_classes_and_background_is_last(
    case: tuple[GroundTruth, DetectionTable],
) -> None:
    confusion = Confusion.of(FrameErrors(*case))
    assert confusion.matrix.tolist() == [
        [0, 0, 1, 0],
        [0, 1, 0, 1],
        [0, 0, 0, 0],
        [1, 1, 1, 0],
    ]
    result = json.loads(json.dumps(confusion.to_dict()))
    assert result["top"] == [{"true": "cat", "predicted": "fox", "count": 1, "share": 1.0}]
    kinds = ("correct", "wrong_class", "missed", "false_alarms")
    assert [result[kind] for kind in kinds] == [1, 1, 1, 3]
    assert [result["per_class"]["dog"][kind] for kind in kinds] == [1, 0, 1, 1]
    assert result["classes"] == ["cat", "dog", "fox", "background"]


def test_top_confusions_are_the_most_frequent_first() -> None:
    matrix = np.array([[5, 2, 0, 1], [7, 1, 2, 0], [0, 0, 9, 9], [4, 4, 4, 0]])
    top = Confusion(("cat", "dog", "fox"), matrix).top(2)
    assert top == [
        {"true": "dog", "predicted": "cat", "count": 7, "share": 0.7},
        {"true": "cat", "predicted": "dog", "count": 2, "share": 0.25},
    ]


def test_a_crowd_causes_neither_missed_boxes_nor_false_alarms(tmp_path: Path) -> None:
    truth = make_truth(tmp_path, 1, [(0, DOG, [0, 0, 100, 100]), (0, DOG, LEFT)], crowds=(0,))
    table = make_table(
        1,
        [
            (0, DOG, LEFT, 0.9),  # in the crowd, but matches the dog
            (0, CAT, [20, 20, 10, 10], 0.8),  # in the crowd
            (0, CAT, [96, 20, 10, 10], 0.8),  # two fifths in the crowd
        ],
    )
    errors = FrameErrors(truth, table)
    assert errors.rows.tolist() == [0, 2]
    assert errors.counts_of(0) == ErrorCounts(0, 0, 1)
    assert errors.num_boxes.tolist() == [1]


@pytest.mark.parametrize("boxes", [[], [(0, CAT, LEFT)]], ids=["no boxes", "a box"])
def test_no_detections(tmp_path: Path, boxes: list[Box]) -> None:
    truth, table = make_truth(tmp_path, 2, boxes), make_table(2, [])
    errors = FrameErrors(truth, table)
    confusion = Confusion.of(errors)
    assert errors.counts.sum() == confusion.matrix.sum() == len(boxes)
    assert confusion.to_dict()["missed"] == len(boxes)
    assert confusion.top() == []


def test_detections_without_any_boxes(tmp_path: Path) -> None:
    truth, table = make_truth(tmp_path, 2, []), make_table(2, [(1, DOG, LEFT, 0.9)])
    errors = FrameErrors(truth, table)
    assert errors.counts.tolist() == [[0, 0], [0, 0], [0, 1]]
    confusion = Confusion.of(errors)
    assert confusion.to_dict()["per_class"]["dog"]["false_alarms"] == 1


def test_the_assignment_is_greedy(tmp_path: Path) -> None:
    """Compare with a loop over detections, on crowded frames with equal scores."""
    rng = np.random.default_rng(0)
    num_images = 30

    def boxes(count: int) -> list[list[float]]:
        return [
            [*rng.integers(0, 6, 2).tolist(), *rng.integers(8, 12, 2).tolist()]
            for _ in range(count)
        ]

    true = [
        (i, int(rng.integers(3)), box) for i in range(num_images) for box in boxes(rng.integers(5))
    ]
    found = [
        (i, int(rng.integers(3)), box, float(rng.integers(1, 10)) / 10)
        for i in range(num_images)
        for box in boxes(rng.integers(8))
    ]
    truth, table = make_truth(tmp_path, num_images, true), make_table(num_images, found)
    errors = FrameErrors(truth, table)

    taken: set[int] = set()
    expected = {}
    for row in sorted(range(len(found)), key=lambda row: -found[row][3]):
        image, _, box, score = found[row]
        if score <= 0.3:
            continue
        candidates = [
            (iou(box, true[m][2]), m)
            for m in range(len(true))
            if true[m][0] == image and m not in taken
        ]
        best, m = max(candidates, default=(0, -1))
        expected[row] = m if best >= 0.5 else -1
        taken.add(expected[row])
    given = dict(zip(errors.rows.tolist(), errors.box_of.tolist(), strict=True))
    assert given == expected
    assert sum(m >= 0 for m in expected.values()) > 20  # the case is not trivial


def iou(a: list[float], b: list[float]) -> float:
    width = min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0])
    height = min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1])
    both = max(width, 0) * max(height, 0)
    return both / (a[2] * a[3] + b[2] * b[3] - both)
