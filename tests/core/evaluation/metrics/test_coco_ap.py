"""COCO AP compared with pycocotools and with values computed by hand."""

from __future__ import annotations

import contextlib
import copy
import csv
import gzip
import io
import json
import math
import pickle
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from sparsevod_core.errors import DataError
from sparsevod_core.evaluation.metrics.coco import BoxAP
from sparsevod_core.evaluation.metrics.detection_table import DetectionCollector
from sparsevod_core.evaluation.metrics.ground_truth import GroundTruth
from sparsevod_core.evaluation.score import evaluate_predictions, score

Json = dict[str, Any]


def pycocotools_numbers(annotations: Json, results: list[Json]) -> dict[str, Any]:
    """Return pycocotools' summary, and AP, AP50 and AP75 by class id."""
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = copy.deepcopy(annotations)
        truth.createIndex()
        if results:
            found = truth.loadRes(copy.deepcopy(results))
        else:  # loadRes cannot take an empty list
            found = COCO()
            found.dataset = truth.dataset | {"annotations": []}
            found.createIndex()
        scoring = COCOeval(truth, found, "bbox")
        scoring.evaluate()
        scoring.accumulate()
        scoring.summarize()
    precision = scoring.eval["precision"][:, :, :, 0, 2]

    def mean(values: np.ndarray) -> float:
        return float(values[values > -1].mean()) if (values > -1).any() else -1.0

    positions = {"AP": 0, "AP50": 1, "AP75": 2, "AR1": 6, "AR10": 7, "AR100": 8}
    return {
        "stats": {name: scoring.stats[position] for name, position in positions.items()},
        "per_class": {
            id_: (mean(precision[:, :, k]), mean(precision[0, :, k]), mean(precision[5, :, k]))
            for k, id_ in enumerate(scoring.params.catIds)
        },
    }


def renumbered(annotations: Json) -> Json:
    boxes = [entry | {"id": id_} for id_, entry in enumerate(annotations["annotations"], 1)]
    return annotations | {"annotations": boxes}


def assert_equal(ours: BoxAP, annotations: Json, results: list[Json]) -> None:
    theirs = pycocotools_numbers(annotations, results)
    for name, expected in theirs["stats"].items():
        assert _minus_one(getattr(ours, name)) == pytest.approx(expected, abs=1e-9), name
    for category in annotations["categories"]:
        one = ours.per_class[category["name"]]
        numbers = [_minus_one(value) for value in (one.AP, one.AP50, one.AP75)]
        assert numbers == pytest.approx(theirs["per_class"][category["id"]], abs=1e-9)


def _minus_one(value: float) -> float:
    return -1.0 if math.isnan(value) else value


def write(path: Path, content: Any) -> Path:
    path.write_text(json.dumps(content))
    return path


def rescored(folder: Path, annotations: Json, results: list[Json]) -> BoxAP:
    return evaluate_predictions(
        write(folder / "truth.json", annotations), write(folder / "found.json", results)
    ).boxes


# Few distinct values, so that equal scores, equal boxes and overlaps of exactly 0.5 are common.
# Tenths, so that left + width - left does not always equal width.
_corner = st.integers(0, 4).map(lambda n: n * 5.1 + 0.1)
# 2e5 gives an area beyond COCO's largest range.
_side = st.sampled_from([10.1, 17.6, 39.9, 10.1, 17.6, 39.9, 0.1, 0.0, -3.0, 2e5])
_box = st.tuples(_corner, _corner, _side, _side).map(list)
_score = st.sampled_from([0.0, 0.1, 0.3, 0.3 + 1e-12, 0.5, 0.9, 1.0])
_crowd = st.sampled_from([0, 0, 0, 0, 0, 1])


@st.composite
def cases(draw: st.DrawFn) -> tuple[Json, list[Json]]:
    """Draw annotations and results. Most results are near a box, some are anywhere."""
    image_ids = draw(st.lists(st.integers(-5, 10**12), min_size=1, max_size=4, unique=True))
    category_ids = draw(st.lists(st.integers(0, 90), min_size=1, max_size=3, unique=True))
    owner = {"image_id": st.sampled_from(image_ids), "category_id": st.sampled_from(category_ids)}
    area = _mostly(st.floats(0, 500), st.sampled_from([-1.0, 1e10, 2e10]))
    truth = st.fixed_dictionaries({**owner, "bbox": _box, "area": area, "iscrowd": _crowd})
    boxes = draw(_mostly(st.lists(truth, min_size=2, max_size=12), st.just([])))
    result = st.fixed_dictionaries({**owner, "bbox": _box, "score": _score})
    if boxes:
        near = st.builds(_near, st.sampled_from(boxes), _shift, _scale, _scale, _score)
        result = _mostly(near, result)
    annotations = {
        "images": [{"id": id_} for id_ in image_ids],
        "categories": [{"id": id_, "name": f"class {id_}"} for id_ in category_ids],
        "annotations": boxes,
    }
    return renumbered(annotations), draw(
        _mostly(st.lists(result, min_size=5, max_size=25), st.just([]))
    )


def _mostly(usual: st.SearchStrategy, rare: st.SearchStrategy) -> st.SearchStrategy:
    return st.integers(0, 5).flatmap(lambda n: rare if n == 5 else usual)


# A shift by a third or a ninth of the width: an overlap of 0.5 or 0.8, up to the last digit.
_shift = st.sampled_from([0, 0, 1 / 3, 1 / 9])
_scale = st.sampled_from([1.0, 1.0, 1.0, 0.5, 0.8, 1.1])


def _near(box: Json, shift: float, width: float, height: float, score: float) -> Json:
    x, y, w, h = box["bbox"]
    near = [x + shift * w, y, width * w, height * h]
    return {key: box[key] for key in ("image_id", "category_id")} | {"bbox": near, "score": score}


@given(cases())
@settings(max_examples=150)
def test_equals_pycocotools(tmp_path_factory: pytest.TempPathFactory, case: Any) -> None:
    annotations, results = case
    ours = rescored(tmp_path_factory.mktemp("case"), annotations, results)
    assert_equal(ours, annotations, results)


@pytest.mark.parametrize("seed", range(3))
def test_equals_pycocotools_where_frames_are_crowded(tmp_path: Path, seed: int) -> None:
    """More than 100 detections of a class per frame: the limit applies as in pycocotools."""
    rng = np.random.default_rng(seed)
    boxes = np.column_stack([rng.uniform(0, 80, (40, 2)), rng.uniform(5, 40, (40, 2))])
    annotations = renumbered(
        {
            "images": [{"id": 7}, {"id": 3}],
            "categories": [{"id": 2, "name": "a"}, {"id": 1, "name": "b"}],
            "annotations": [
                {
                    "image_id": int(rng.choice([7, 3])),
                    "category_id": int(rng.choice([1, 2])),
                    "bbox": box.tolist(),
                    "area": float(box[2] * box[3]),
                    "iscrowd": 0,
                }
                for box in boxes
            ],
        }
    )
    results = [
        {
            "image_id": int(rng.choice([7, 3])),
            "category_id": int(rng.choice([1, 2])),
            "bbox": (boxes[rng.integers(40)] + rng.normal(0, 2, 4)).tolist(),
            "score": round(float(rng.random()), 2),
        }
        for _ in range(600)
    ]
    ours = rescored(tmp_path, annotations, results)
    assert ours.num_detections == 600
    assert 0 < ours.AP < 1
    assert_equal(ours, annotations, results)


# One class, two frames, two boxes of 10 x 10. The best detection is exact, the second overlaps no
# box, the third is 10 x 6 inside the other box (IoU 0.6).
BY_HAND = {
    "images": [{"id": 10}, {"id": 20}],
    "categories": [{"id": 5, "name": "car"}, {"id": 6, "name": "dog"}],
    "annotations": [
        {"id": 1, "image_id": 10, "category_id": 5, "bbox": [0, 0, 10, 10], "area": 100},
        {"id": 2, "image_id": 20, "category_id": 5, "bbox": [50, 50, 10, 10], "area": 100},
    ],
}
BY_HAND_FOUND = [
    {"image_id": 10, "category_id": 5, "bbox": [0, 0, 10, 10], "score": 0.9},
    {"image_id": 10, "category_id": 5, "bbox": [30, 30, 10, 10], "score": 0.8},
    {"image_id": 20, "category_id": 5, "bbox": [50, 50, 10, 6], "score": 0.7},
]


def test_equals_pycocotools_on_imagenet_vid(tmp_path: Path, shared_dir: Path) -> None:
    """Real boxes of videos with several objects and simulated detections."""
    file = shared_dir / "data" / "ilsvrc" / "vid_val_gt_all.csv.gz"
    if not file.exists():
        pytest.skip(f"no real ground truth at {file}")
    with gzip.open(file, "rt") as lines:
        rows = [row for row in csv.DictReader(lines) if int(row["frame_id"]) % 400 < 3]
    rng = np.random.default_rng(0)
    boxes, results = [], []
    for id_, row in enumerate(rows, 1):
        left, top, right, bottom = (float(row[key]) for key in ("xmin", "ymin", "xmax", "ymax"))
        bbox = [left, top, right - left, bottom - top]
        image, category = int(row["frame_id"]), int(row["class_id"])
        owner = {"image_id": image, "category_id": category}
        boxes.append({"id": id_, **owner, "bbox": bbox, "area": bbox[2] * bbox[3], "iscrowd": 0})
        for spread in rng.exponential(0.15, 5):
            near = np.array(bbox) + rng.normal(0, spread, 4) * (bbox[2:] * 2)
            score = round(float(np.exp(-3 * spread) * rng.random()), 2)
            other = {"category_id": int(rng.integers(1, 31))} if rng.random() < 0.2 else {}
            results.append({**owner, "bbox": near.tolist(), "score": score, **other})
    images = [*sorted({entry["image_id"] for entry in boxes}), 10**9]
    annotations = {
        "images": [{"id": id_} for id_ in images],
        "categories": [{"id": id_, "name": str(id_)} for id_ in range(1, 31)],
        "annotations": boxes,
    }
    ours = rescored(tmp_path, annotations, results)
    assert ours.num_boxes > 1500 and 0.1 < ours.AP < 0.9
    assert_equal(ours, annotations, results)


def test_worked_by_hand(tmp_path: Path) -> None:
    """Precision is 1 up to recall 0.5 (51 of 101 points), then 2/3 up to IoU 0.60, 0 above."""
    ours = rescored(tmp_path, BY_HAND, BY_HAND_FOUND)
    loose, strict = (51 + 50 * 2 / 3) / 101, 51 / 101
    numbers = ours.to_dict()
    assert numbers["AP50"] == pytest.approx(loose)
    assert numbers["AP75"] == pytest.approx(strict)
    assert numbers["AP"] == pytest.approx((3 * loose + 7 * strict) / 10)  # 0.50, 0.55, 0.60 of ten
    assert numbers["AR1"] == pytest.approx((3 * 1.0 + 7 * 0.5) / 10)
    assert (ours.num_frames, ours.num_boxes, ours.num_detections) == (2, 2, 3)
    assert list(numbers["AP_by_iou"]) == [f"{iou / 100:.2f}" for iou in range(50, 100, 5)]
    assert list(numbers["AP_by_iou"].values()) == pytest.approx([loose] * 3 + [strict] * 7)
    precision = ours.curves.precision[0, :, 0]
    assert precision.tolist() == pytest.approx([1] * 51 + [2 / 3] * 50)
    assert np.isnan(ours.curves.precision[:, :, 1]).all()


def test_a_class_without_boxes_has_no_ap_and_is_not_averaged(tmp_path: Path) -> None:
    ours = rescored(tmp_path, BY_HAND, BY_HAND_FOUND)
    assert ours.AP == ours.per_class["car"].AP
    assert math.isnan(ours.per_class["dog"].AP)
    assert ours.per_class["dog"].num_boxes == 0
    plain = json.loads(json.dumps(ours.to_dict(), allow_nan=False))
    assert plain["per_class"]["dog"] == {"AP": None, "AP50": None, "AP75": None, "num_boxes": 0}


def test_no_detections_score_zero(tmp_path: Path) -> None:
    ours = rescored(tmp_path, BY_HAND, [])
    assert (ours.AP, ours.AP50, ours.AR100) == (0, 0, 0)
    assert ours.num_frames == 2


def test_false_alarms_in_a_frame_without_boxes_count(tmp_path: Path) -> None:
    alarm = {"image_id": 30, "category_id": 5, "bbox": [0, 0, 9, 9], "score": 0.95}
    more = BY_HAND | {"images": [*BY_HAND["images"], {"id": 30}]}
    assert (
        rescored(tmp_path, more, [*BY_HAND_FOUND, alarm]).AP
        < rescored(tmp_path, more, BY_HAND_FOUND).AP
    )


def test_annotations_without_any_box(tmp_path: Path) -> None:
    ours = rescored(tmp_path, BY_HAND | {"annotations": []}, BY_HAND_FOUND)
    assert math.isnan(ours.AP) and math.isnan(ours.AR100)
    assert ours.to_dict()["AP"] is None


def test_annotation_id_0_counts_here_and_not_in_pycocotools(tmp_path: Path) -> None:
    """pycocotools interprets a match with id 0 as no match; we equal it on the renumbered file."""
    from_zero = copy.deepcopy(BY_HAND)
    for id_, entry in enumerate(from_zero["annotations"]):
        entry |= {"id": id_, "iscrowd": 0}
    ours = rescored(tmp_path, from_zero, BY_HAND_FOUND[:1])
    assert ours.to_dict()["AP"] == pytest.approx(51 / 101)
    assert pycocotools_numbers(from_zero, BY_HAND_FOUND[:1])["stats"]["AP"] == 0
    assert_equal(ours, renumbered(from_zero), BY_HAND_FOUND[:1])


def test_missing_area_and_crowd_flag_and_ids_as_text(tmp_path: Path) -> None:
    annotations = {
        "images": [{"id": "b/1"}, {"id": "a/2"}],
        "categories": [{"id": 0, "name": "car"}],
        "annotations": [{"image_id": "a/2", "category_id": 0, "bbox": [1, 2, 3, 4]}],
    }
    results = [{"image_id": "a/2", "category_id": 0.0, "bbox": [1, 2, 3, 4], "score": 1}]
    assert rescored(tmp_path, annotations, results).to_dict()["AP"] == pytest.approx(1)


def test_an_overlap_of_exactly_one_half_is_a_match(tmp_path: Path) -> None:
    """A box shifted by a third of its width. A detour through xyxy would reduce the overlap."""
    box, shifted = [120.7, 47.7, 39.9, 21.1], [134.0, 47.7, 39.9, 21.1]
    annotations = {
        "images": [{"id": 1}],
        "categories": [{"id": 1, "name": "car"}],
        "annotations": [{"image_id": 1, "category_id": 1, "bbox": box}],
    }
    results = [{"image_id": 1, "category_id": 1, "bbox": shifted, "score": 0.5}]
    assert rescored(tmp_path, annotations, results).to_dict()["AP50"] == pytest.approx(1)


def test_scoring_prints_nothing(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    rescored(tmp_path, BY_HAND, BY_HAND_FOUND)
    assert capfd.readouterr() == ("", "")


def collector_of(folder: Path) -> DetectionCollector:
    return DetectionCollector(GroundTruth.load(write(folder / "truth.json", BY_HAND)))


def test_merged_parts_equal_one_collector(tmp_path: Path) -> None:
    """Includes pickling, as for parts from other processes."""
    whole, first, second = (collector_of(tmp_path) for _ in range(3))
    for image_id, part in ((20, first), (10, second)):
        found = [entry for entry in BY_HAND_FOUND if entry["image_id"] == image_id]
        columns = (
            np.array([entry["bbox"] for entry in found], dtype=np.float64),
            np.array([entry["score"] for entry in found]),
            [entry["category_id"] for entry in found],
        )
        whole.update(image_id, *columns)
        part.update(image_id, *columns)
    first.merge(pickle.loads(pickle.dumps(second)))
    truth = GroundTruth.load(tmp_path / "truth.json")
    merged, direct = score(truth, first.table()).boxes, score(truth, whole.table()).boxes
    assert merged.to_dict() == direct.to_dict()
    assert direct.AP == rescored(tmp_path, BY_HAND, BY_HAND_FOUND).AP


def test_a_frame_is_added_once(tmp_path: Path) -> None:
    one, other = collector_of(tmp_path), collector_of(tmp_path)
    nothing = (np.zeros((0, 4)), np.zeros(0), [])
    one.update(10, *nothing)
    other.update(10, *nothing)
    with pytest.raises(ValueError, match="already added"):
        one.update(10, *nothing)
    with pytest.raises(ValueError, match="both collectors"):
        one.merge(other)


def test_update_rejects_invalid_detections(tmp_path: Path) -> None:
    collector = collector_of(tmp_path)
    box = np.array([[0.0, 0, 1, 1]])
    with pytest.raises(ValueError, match="image 11 is not in"):
        collector.update(11, box, np.ones(1), [5])
    with pytest.raises(ValueError, match=r"categories \{7\}"):
        collector.update(10, box, np.ones(1), [7])
    with pytest.raises(DataError, match=r"image 10: some boxes or scores .* not finite"):
        collector.update(10, box, np.array([np.nan]), [5])


def test_only_some_images(tmp_path: Path) -> None:
    truth = GroundTruth.load(write(tmp_path / "truth.json", BY_HAND))
    half = truth.restricted_to([20])
    assert half.image_ids == (20,)
    assert half.boxes_xywh.tolist() == [[50, 50, 10, 10]]
    assert half.images.tolist() == [0]
    assert score(half, DetectionCollector(half).table()).boxes.num_boxes == 1


def test_frames_leave_no_arrays_of_their_own(tmp_path: Path) -> None:
    """Small arrays between a model's large tensors would keep freed memory from being reused."""
    truth = {
        "images": [{"id": id_} for id_ in range(1000)],
        "categories": [{"id": 1, "name": "car"}],
        "annotations": [],
    }
    collector = DetectionCollector(GroundTruth.load(write(tmp_path / "truth.json", truth)))

    def add(ids: range) -> int:
        """Return the number of allocations that stay."""
        for id_ in ids:
            collector.update(id_, np.full((100, 4), 1.0 * id_), np.linspace(0, 1, 100), [1] * 100)
        statistics = tracemalloc.take_snapshot().statistics("filename")
        return sum(statistic.count for statistic in statistics)

    tracemalloc.start()
    try:
        before = add(range(50))
        after = add(range(50, 1000))
    finally:
        tracemalloc.stop()
    assert after - before < 500  # of 950 frames
    assert collector.table().images.tolist() == np.repeat(np.arange(1000), 100).tolist()
