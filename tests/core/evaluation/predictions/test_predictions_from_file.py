"""Errors of annotation and results files name the invalid entry."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sparsevod_core.errors import DataError
from sparsevod_core.evaluation.metrics.ground_truth import GroundTruth
from sparsevod_core.evaluation.score import evaluate_predictions

TRUTH: dict[str, Any] = {
    "images": [{"id": 1}, {"id": 2}],
    "categories": [{"id": 5, "name": "car"}],
    "annotations": [{"image_id": 1, "category_id": 5, "bbox": [0, 0, 10, 10]}],
}
FOUND: dict[str, Any] = {"image_id": 1, "category_id": 5, "bbox": [0, 0, 10, 10], "score": 0.5}


def write(path: Path, content: Any) -> Path:
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def score(folder: Path, truth: Any, found: Any) -> float:
    return evaluate_predictions(
        write(folder / "truth.json", truth), write(folder / "found.json", found)
    ).boxes.AP


def without(entry: dict[str, Any], key: str) -> dict[str, Any]:
    return {k: v for k, v in entry.items() if k != key}


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (
            FOUND | {"image_id": 99},
            r"entry 1: image_id 99 is not among the images of .*truth\.json",
        ),
        (FOUND | {"category_id": 6}, r"entry 1: category_id 6 is not among the categories"),
        (FOUND | {"image_id": [1]}, r"entry 1: image_id \[1\] is not"),
        (FOUND | {"image_id": None}, r"entry 1: image_id None is not"),
        (without(FOUND, "image_id"), "entry 1: `image_id` is missing"),
        (without(FOUND, "category_id"), "entry 1: `category_id` is missing"),
        (without(FOUND, "bbox"), "entry 1: `bbox` is missing"),
        (without(FOUND, "score"), "entry 1: `score` is missing"),
        (FOUND | {"score": float("nan")}, "entry 1: score: expected a finite number, got nan"),
        (FOUND | {"score": "0.5"}, "entry 1: score: expected a finite number, got '0.5'"),
        (FOUND | {"score": True}, "entry 1: score: expected a finite number, got True"),
        (FOUND | {"bbox": [0, 0, 10]}, "entry 1: bbox: expected four finite numbers"),
        (FOUND | {"bbox": "0 0 1 1"}, "entry 1: bbox: expected four finite numbers"),
        (FOUND | {"bbox": [0, 0, 1, float("inf")]}, "entry 1: bbox: expected four finite"),
        (FOUND | {"bbox": ["", 0, 1, 1]}, "entry 1: bbox: expected four finite"),
        (FOUND | {"bbox": [[1], 1, 2, 3]}, "entry 1: bbox: expected four finite"),
        (FOUND | {"score": [0.5]}, "entry 1: score: expected a finite number"),
        (FOUND | {"score": 10**400}, "entry 1: score: expected a finite number"),
        (FOUND | {"image_id": 10**400}, "entry 1: image_id 1000.* is not"),
        (FOUND | {"bbox": [0, 0, 1, 10**400]}, "entry 1: bbox: expected four finite"),
        ([1, 5, 0, 0, 10, 10, 0.5], "entry 1: expected an object, got a list"),
    ],
)
def test_an_invalid_entry_is_reported(tmp_path: Path, entry: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        score(tmp_path, TRUTH, [FOUND, entry])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"annotations": []}, "not a COCO results file: expected a list, got an object"),
        ("null", "expected a list, got null"),
        ("[{", "not valid JSON at character"),
        ("[" * 100_000, "not valid JSON at character .*: nested too deeply"),
        ("", "got an empty file"),
        ("image_id,score", "got text that begins with 'i'"),
    ],
)
def test_other_kinds_of_files(tmp_path: Path, content: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        score(tmp_path, TRUTH, content)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nowhere\.json: cannot be read: No such file"):
        evaluate_predictions(write(tmp_path / "t.json", TRUTH), tmp_path / "nowhere.json")


@pytest.mark.parametrize(
    ("key", "entries", "message"),
    [
        ("images", {"id": 1}, "expected a list `images`, got another value"),
        ("images", [{"id": 1}, {"id": 1}], r"images\[1\] \(id 1\): has the id of images\[0\]"),
        ("images", [{"id": 1}, {}], r"images\[1\]: `id` is missing"),
        (
            "images",
            [{"id": 1.5}],
            r"images\[0\] \(id 1.5\): id: expected a whole number or text, got 1.5",
        ),
        ("images", [{"id": 1}, {"id": "2"}], "some ids are numbers and some are text"),
        ("categories", [{"id": 5}], r"categories\[0\] \(id 5\): `name` is missing"),
        ("categories", [{"id": 5, "name": 3}], r"categories\[0\] \(id 5\): name: expected text"),
        (
            "categories",
            [{"id": 5, "name": "car"}, {"id": 6, "name": "car"}],
            r"categories\[1\] \(id 6\): has the name 'car' of categories\[0\]",
        ),
        (
            "annotations",
            [{"image_id": 7, "category_id": 5, "bbox": [0, 0, 1, 1]}],
            r"annotations\[0\]: image_id 7 is not in 'images'",
        ),
        ("annotations", [{"image_id": 1, "category_id": 5}], r"annotations\[0\]: `bbox` is miss"),
        (
            "annotations",
            [{"image_id": 1, "category_id": 5, "bbox": [0, 0, 1, 1], "area": "big"}],
            r"annotations\[0\]: area: expected a finite number, got 'big'",
        ),
    ],
)
def test_invalid_annotations_are_reported(
    tmp_path: Path, key: str, entries: Any, message: str
) -> None:
    with pytest.raises(DataError, match=message):
        GroundTruth.load(write(tmp_path / "truth.json", TRUTH | {key: entries}))


def test_entries_of_a_frame_may_be_apart(tmp_path: Path) -> None:
    elsewhere = FOUND | {"image_id": 2, "score": 0.1}
    assert score(tmp_path, TRUTH, [FOUND, elsewhere, FOUND | {"score": 0.2}]) == pytest.approx(1)


def test_a_folder_is_read_as_one_file(tmp_path: Path) -> None:
    folder = tmp_path / "found"
    folder.mkdir()
    truth = write(tmp_path / "truth.json", TRUTH)
    with pytest.raises(DataError, match="no JSON file in the folder"):
        evaluate_predictions(truth, folder)
    write(folder / "a.coco.json", [FOUND])
    write(folder / "b.coco.json", [FOUND | {"image_id": 2, "score": 0.9}])
    write(folder / "a.json", {"schema": "sparsevod.detections/1"})
    result = evaluate_predictions(truth, folder)
    assert result.boxes.num_detections == 2
    assert pytest.approx(0.5) == result.boxes.AP  # a false positive comes first
    write(folder / "c.coco.json", [FOUND])
    message = "c.coco.json: image_id 1 has detections in another file"
    with pytest.raises(DataError, match=message):
        evaluate_predictions(truth, folder)


def test_unknown_ids_come_with_the_way_to_write_others(tmp_path: Path) -> None:
    with pytest.raises(DataError) as error:
        score(tmp_path, TRUTH, [FOUND | {"image_id": 99}])
    assert "sparsevod detect VIDEOS --no-video --annotations GT.json" in str(error.value.hint)
