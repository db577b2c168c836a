"""AP by speed: COCO's rules compared with pycocotools, FGFA's with its definition in loops."""

from __future__ import annotations

import contextlib
import copy
import io
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from sparsevod_core.evaluation.metrics.ground_truth import GroundTruth
from sparsevod_core.evaluation.metrics.subsets import (
    SPEEDS,
    UnknownMotionError,
    known_motion_iou,
    speed_of,
)
from sparsevod_core.evaluation.score import evaluate_predictions

Json = dict[str, Any]
FGFA = Path(__file__).parents[3] / "fixtures" / "fgfa_motion_ap"
RANGES = {"all": (0, 1), "fast": (0, 0.7), "medium": (0.7, 0.9), "slow": (0.9, 1)}


def write(path: Path, content: Any) -> Path:
    path.write_text(json.dumps(content))
    return path


def motion_of(folder: Path, annotations: Json, results: list[Json]) -> Json:
    return evaluate_predictions(
        write(folder / "truth.json", annotations), write(folder / "found.json", results)
    ).to_dict()["motion"]


def annotated(boxes: list[Json], num_images: int = 1, num_classes: int = 1) -> Json:
    return {
        "images": [{"id": id_} for id_ in range(1, num_images + 1)],
        "categories": [{"id": id_, "name": f"c{id_}"} for id_ in range(1, num_classes + 1)],
        "annotations": [
            {"id": id_, "image_id": 1, "category_id": 1, "iscrowd": 0, **box}
            for id_, box in enumerate(boxes, 1)
        ],
    }


def detection(bbox: list[float], score: float, image_id: int = 1, category_id: int = 1) -> Json:
    return {"image_id": image_id, "category_id": category_id, "bbox": bbox, "score": score}


def random_case(seed: int) -> tuple[Json, list[Json]]:
    """Return boxes and detections with integer pixels and few scores: ties are common."""
    rng = np.random.default_rng(seed)
    owner = lambda: (int(rng.integers(1, 6)), int(rng.integers(1, 4)))  # noqa: E731
    boxes = []
    for _ in range(rng.integers(0, 14)):
        image, category = owner()
        bbox = [float(n) for n in (*rng.integers(0, 40, 2), *rng.integers(4, 30, 2))]
        motion = float(rng.choice([0.2, 0.69, 0.7, 0.8, 0.9, 0.95, 1.0]))
        boxes.append(
            {"image_id": image, "category_id": category, "bbox": bbox, "motion_iou": motion}
        )
    results = []
    for _ in range(rng.integers(0, 40)):
        image, category = owner()
        bbox = [float(n) for n in (*rng.integers(0, 40, 2), *rng.integers(4, 30, 2))]
        if boxes and rng.random() < 0.7:
            near = boxes[rng.integers(len(boxes))]
            image, category = near["image_id"], near["category_id"]
            bbox = (np.array(near["bbox"]) + rng.integers(-3, 4, 4)).tolist()
        score = float(rng.choice([0.1, 0.2, 0.5, 0.5, 0.9]))
        results.append(detection(bbox, score, image, category))
    return annotated(boxes, num_images=6, num_classes=3), results


def fgfa_in_loops(annotations: Json, results: list[Json], low: float, high: float) -> float | None:
    """Compute FGFA's AP as its definition says, one rule at a time."""
    boxes = annotations["annotations"]
    in_range = [low <= box["motion_iou"] <= high for box in boxes]
    share_of_all = sum(in_range) / len(boxes) if boxes else 0.0
    aps = []
    for category in (entry["id"] for entry in annotations["categories"]):
        wanted = sum(
            inside
            for box, inside in zip(boxes, in_range, strict=True)
            if box["category_id"] == category
        )
        if not wanted:
            continue
        ranked = sorted(
            (entry for entry in results if entry["category_id"] == category),
            key=lambda entry: (-entry["score"], entry["image_id"]),
        )
        spent: set[int] = set()
        true_positives, false_positives, curve = 0, 0.0, []
        for entry in ranked:
            here = [i for i, box in enumerate(boxes) if box["image_id"] == entry["image_id"]]
            ious = {i: inclusive_iou(entry["bbox"], boxes[i]["bbox"]) for i in here}
            best, best_iou = None, -1.0
            for i in here:
                if boxes[i]["category_id"] != category or i in spent:
                    continue
                if ious[i] >= least_iou(boxes[i]["bbox"]) and ious[i] > best_iou:
                    best, best_iou = i, ious[i]
            if best is not None:
                spent.add(best)
                true_positives += in_range[best]
            elif not here:
                false_positives += share_of_all
            else:
                a = max((ious[i] for i in here if in_range[i]), default=-1.0)
                b = max((ious[i] for i in here if not in_range[i]), default=-1.0)
                share_outside = sum(not in_range[i] for i in here) / len(here)
                false_positives += share_outside if a == b else a > b
            curve.append((true_positives, false_positives))
        recall = [0.0, *(tp / wanted for tp, _ in curve), 1.0]
        precision = [0.0, *(tp / (tp + fp) if tp else 0.0 for tp, fp in curve), 0.0]
        for i in reversed(range(len(precision) - 1)):
            precision[i] = max(precision[i], precision[i + 1])
        steps = range(1, len(recall))
        aps.append(sum((recall[i] - recall[i - 1]) * precision[i] for i in steps))
    return sum(aps) / len(aps) if aps else None


def inclusive_iou(first: list[float], second: list[float]) -> float:
    corners = [(x, y, x + w, y + h) for x, y, w, h in (first, second)]
    left, top = (max(a, b) for a, b in zip(corners[0][:2], corners[1][:2], strict=True))
    right, bottom = (min(a, b) for a, b in zip(corners[0][2:], corners[1][2:], strict=True))
    both = max(right - left + 1, 0) * max(bottom - top + 1, 0)
    areas = [(x2 - x1 + 1) * (y2 - y1 + 1) for x1, y1, x2, y2 in corners]
    return both / (sum(areas) - both)


def least_iou(bbox: list[float]) -> float:
    w, h = bbox[2] + 1, bbox[3] + 1
    return min(0.5, w * h / ((w + 10) * (h + 10)))


@pytest.mark.parametrize("seeds", [range(60), range(60, 120)])
def test_fgfa_equals_its_definition(tmp_path: Path, seeds: range) -> None:
    seen = []
    for seed in seeds:
        annotations, results = random_case(seed)
        ours = motion_of(tmp_path, annotations, results)["fgfa"]
        for name, (low, high) in RANGES.items():
            expected = fgfa_in_loops(annotations, results, low, high)
            assert ours[name] == (None if expected is None else pytest.approx(expected)), seed
            seen.append(ours[name])
    assert len(set(seen)) > 60  # not all of them 0 or 1


FAST = {"bbox": [0, 0, 40, 40], "motion_iou": 0.5}
SLOW = {"bbox": [100, 0, 40, 40], "motion_iou": 0.95}


def test_fgfa_ignores_a_match_out_of_range_and_uses_up_its_box(tmp_path: Path) -> None:
    """The best is on the fast box, the second again (false, of that speed), the third is slow."""
    results = [
        detection(FAST["bbox"], 0.9),
        detection(FAST["bbox"], 0.8),
        detection(SLOW["bbox"], 0.7),
    ]
    ours = motion_of(tmp_path, annotated([FAST, SLOW]), results)["fgfa"]
    assert ours["slow"] == pytest.approx(1)  # no false positive counts
    assert ours["fast"] == pytest.approx(1)  # the false positive comes after all boxes
    assert ours["medium"] is None
    assert ours["all"] == pytest.approx(0.5 * 1 + 0.5 * 2 / 3)


def test_fgfa_false_positives_may_count_as_fractions(tmp_path: Path) -> None:
    """The first is in a frame without boxes: half of all boxes are fast. The second overlaps both
    boxes by 0, a tie between fast and slow: half of them are slow. The third is on the fast box."""
    results = [
        detection([0, 0, 40, 40], 0.9, image_id=2),
        detection([500, 500, 40, 40], 0.8),
        detection(FAST["bbox"], 0.7),
    ]
    ours = motion_of(tmp_path, annotated([FAST, SLOW], num_images=2), results)["fgfa"]
    assert ours["fast"] == pytest.approx(1 / (1 + 0.5 + 0.5))
    assert ours["all"] == pytest.approx(0.5 * 1 / (1 + 1 + 1))


def test_fgfa_false_positives_beside_boxes_of_one_speed_are_of_that_speed(tmp_path: Path) -> None:
    """The first detection touches none of the frame's two boxes, which are both slow."""
    other = SLOW | {"bbox": [200, 0, 40, 40]}
    results = [
        detection([500, 500, 40, 40], 0.9),
        detection(SLOW["bbox"], 0.8),
        detection(other["bbox"], 0.7),
        detection(FAST["bbox"], 0.6, image_id=2),
    ]
    boxes = [SLOW, other, FAST | {"image_id": 2}]
    ours = motion_of(tmp_path, annotated(boxes, num_images=2), results)["fgfa"]
    assert ours["slow"] == pytest.approx(2 / 3)
    assert ours["fast"] == pytest.approx(1)


def test_fgfas_own_numbers() -> None:
    ours = evaluate_predictions(FGFA / "gt.json", FGFA / "detections.json")
    expected = json.loads((FGFA / "expected.json").read_text())
    assert ours.motion["fgfa"] == pytest.approx(expected, abs=1e-9)


def test_fgfa_small_boxes_match_at_a_lower_iou(tmp_path: Path) -> None:
    """A 10 x 10 box (ends included) needs 100 / 400 = 0.25. Its detection is 10 x 3: IoU 0.3."""
    small = {"bbox": [0, 0, 9, 9], "motion_iou": 0.8}
    ours = motion_of(tmp_path, annotated([small]), [detection([0, 0, 9, 2], 0.5)])
    assert ours["fgfa"]["medium"] == pytest.approx(1)
    assert ours["coco"]["medium"]["AP50"] == 0


def test_a_box_on_the_limit_is_in_both_of_fgfas_ranges(tmp_path: Path) -> None:
    box = {"bbox": [0, 0, 40, 40], "motion_iou": 0.9}
    ours = motion_of(tmp_path, annotated([box]), [detection(box["bbox"], 0.5)])
    assert ours["fgfa"] == {"all": 1, "fast": None, "medium": 1, "slow": 1}
    assert ours["coco"]["medium"]["num_boxes"] == 1 and ours["coco"]["slow"]["num_boxes"] == 0


def test_speed_limits() -> None:
    assert speed_of(np.array([0.0, 0.6999, 0.7, 0.9, 0.9001, 1.0])).tolist() == [0, 0, 1, 1, 2, 2]


def pycocotools_of_speed(annotations: Json, results: list[Json], speed: int) -> dict[str, float]:
    """Return pycocotools' AP with speed encoded as area: other boxes are large and ignored."""
    truth, found = COCO(), COCO()
    truth.dataset = copy.deepcopy(annotations)
    for box in truth.dataset["annotations"]:
        is_chosen = int(speed_of(np.array([box["motion_iou"]]))[0]) == speed
        box["area"] = 50 if is_chosen else 10_000
    found.dataset = truth.dataset | {
        "annotations": [entry | {"id": i, "area": 50} for i, entry in enumerate(results, 1)]
    }
    with contextlib.redirect_stdout(io.StringIO()):
        truth.createIndex()
        found.createIndex()
        scoring = COCOeval(truth, found, "bbox")
        scoring.params.areaRng, scoring.params.areaRngLbl = [[0, 100]], ["all"]
        scoring.evaluate()
        scoring.accumulate()
    precision = scoring.eval["precision"][:, :, :, 0, -1]
    return {
        name: float(part[part > -1].mean()) if (part > -1).any() else math.nan
        for name, part in {"AP": precision, "AP50": precision[0], "AP75": precision[5]}.items()
    }


def test_coco_rules_equal_pycocotools(tmp_path: Path) -> None:
    for seed in range(40):
        annotations, results = random_case(seed)
        ours = motion_of(tmp_path, annotations, results)["coco"]
        for speed, name in enumerate(SPEEDS):
            theirs = pycocotools_of_speed(annotations, results, speed)
            numbers = {key: ours[name][key] for key in theirs}
            expected = {key: None if math.isnan(v) else v for key, v in theirs.items()}
            assert numbers == pytest.approx(expected, abs=1e-9), seed


def tracked(**changes: Any) -> Json:
    """Return two videos with one object each, of equal id; the first moves half a box per frame."""
    boxes = [
        {"image_id": 1, "bbox": [0, 0, 9, 9], "instance_id": 4},
        {"image_id": 2, "bbox": [5, 0, 9, 9], "instance_id": 4},
        {"image_id": 3, "bbox": [0, 0, 9, 9], "instance_id": 4},
    ]
    annotations = annotated([box | changes for box in boxes], num_images=3)
    annotations["videos"] = [{"id": "a", "name": "a"}, {"id": "b", "name": "b"}]
    for image, (video, frame) in zip(
        annotations["images"], [("a", 0), ("a", 1), ("b", 1)], strict=True
    ):
        image |= {"video_id": video, "frame_id": frame}
    return annotations


def test_motion_is_computed_from_tracks_if_not_stored(tmp_path: Path) -> None:
    annotations = tracked()
    annotations["annotations"][1]["motion_iou"] = 0.25
    truth = GroundTruth.load(write(tmp_path / "truth.json", annotations))
    # 5 of 10 columns overlap: 50 / 150. The other video's object has only one frame.
    assert known_motion_iou(truth) == pytest.approx([1 / 3, 0.25, np.nan], nan_ok=True)
    motion = motion_of(tmp_path, annotations, [])
    assert [motion["coco"][speed]["num_boxes"] for speed in SPEEDS] == [2, 0, 0]
    assert motion["num_unknown"] == 1


def test_sparse_labels_have_no_speed(tmp_path: Path) -> None:
    annotations = tracked()
    annotations["images"][1]["frame_id"] = annotations["images"][0]["frame_id"] + 10
    motion = motion_of(tmp_path, annotations, [])
    assert motion["coco"] is None and motion["fgfa"] is None
    assert "no track has two boxes within 4 frames" in motion["unknown"]


@pytest.mark.parametrize("missing", ["instance_id", "frame_id"])
def test_unknown_motion_is_null_with_a_reason(tmp_path: Path, missing: str) -> None:
    annotations = tracked()
    part = "images" if missing == "frame_id" else "annotations"
    del annotations[part][0][missing]
    truth = GroundTruth.load(write(tmp_path / "truth.json", annotations))
    with pytest.raises(UnknownMotionError, match=r"1 of 3 boxes .* have neither `motion_iou` nor"):
        known_motion_iou(truth)
    motion = motion_of(tmp_path, annotations, [])
    assert motion["coco"] is None and motion["fgfa"] is None
    assert "1 of 3 boxes" in motion["unknown"]


def test_crowds_have_no_speed(tmp_path: Path) -> None:
    annotations = tracked()
    crowd, *others = annotations["annotations"]
    crowd |= {"iscrowd": 1, "instance_id": None}
    for box in others:
        box["motion_iou"] = 0.95
    motion = motion_of(tmp_path, annotations, [detection([5, 0, 9, 9], 0.5, image_id=2)])
    assert [motion["coco"][speed]["num_boxes"] for speed in SPEEDS] == [0, 0, 2]
    assert motion["fgfa"]["slow"] == pytest.approx(0.5)


def test_without_any_box(tmp_path: Path) -> None:
    motion = motion_of(tmp_path, annotated([]), [detection([0, 0, 9, 9], 0.5)])
    nothing = {"AP": None, "AP50": None, "AP75": None, "num_boxes": 0}
    assert motion["coco"] == dict.fromkeys(SPEEDS, nothing)
    assert motion["fgfa"] == dict.fromkeys(RANGES)
