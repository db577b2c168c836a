"""AP on degraded and clean frames compared with values computed by hand."""

from __future__ import annotations

import json

import pytest

from sparsevod_core.evaluation.score import evaluate_predictions

BOX = [0.0, 0.0, 10.0, 10.0]
FRAMES = [
    {"id": 1, "degradation": {}},
    {"id": 2, "degradation": {"noise": 0.8}},
    {"id": 3, "degradation": {}},
    {"id": 4},  # unknown
    {"id": 5, "degradation": "another tool's"},
]
FOUND = [
    {"image_id": 1, "category_id": 1, "bbox": BOX, "score": 0.9},
    {"image_id": 2, "category_id": 1, "bbox": [50.0, 50.0, 10.0, 10.0], "score": 0.8},
    {"image_id": 2, "category_id": 1, "bbox": [0.0, 0.0, 10.0, 6.2], "score": 0.5},  # IoU 0.62
    {"image_id": 4, "category_id": 1, "bbox": BOX, "score": 0.95},
]


def scores(folder, images):
    """Score `FOUND` on some frames with one box each."""
    truth, found = folder / "truth.json", folder / "found.json"
    boxes = [{"id": n["id"], "image_id": n["id"], "category_id": 1, "bbox": BOX} for n in images]
    categories = [{"id": 1, "name": "thing"}]
    truth.write_text(json.dumps({"images": images, "categories": categories, "annotations": boxes}))
    known = {image["id"] for image in images}
    found.write_text(json.dumps([one for one in FOUND if one["image_id"] in known]))
    return evaluate_predictions(truth, found).to_dict()


def test_frames_of_each_condition_are_scored_separately(tmp_path):
    result = scores(tmp_path, FRAMES)
    # Clean: one of two boxes, no false alarm. Precision is 1 up to recall 0.5, 51 of 101 points.
    assert result["clean"] == {
        "AP": pytest.approx(51 / 101),
        "AP50": pytest.approx(51 / 101),
        "AP75": pytest.approx(51 / 101),
        "num_frames": 2,
        "num_boxes": 2,
    }
    # Degraded: a false alarm, then the box. Precision is 0.5, only at IoU 0.50, 0.55 and 0.60.
    assert result["degraded"] == {
        "AP": pytest.approx(0.3 * 0.5),
        "AP50": pytest.approx(0.5),
        "AP75": 0.0,
        "num_frames": 1,
        "num_boxes": 1,
    }


def test_no_clean_frame(tmp_path):
    result = scores(tmp_path, FRAMES[1:2])
    assert result["clean"] == {
        "AP": None,
        "AP50": None,
        "AP75": None,
        "num_frames": 0,
        "num_boxes": 0,
    }
    assert result["degraded"]["AP50"] == result["AP50"]


def test_unknown_conditions(tmp_path):
    result = scores(tmp_path, FRAMES[3:])
    assert result["degraded"] is None and result["clean"] is None


def test_the_table_shows_both(tmp_path, capsys):
    from sparsevod_cli.evaluation_tables import show_result

    empty = {"score": 0.3, "top": [], "per_class": {"thing": {}}}
    show_result(scores(tmp_path, FRAMES) | {"confusion": empty, "worst_videos": []})
    lines = {
        line.split()[0]: line.split()[1:]
        for line in capsys.readouterr().out.splitlines()
        if line.strip()
    }
    assert lines["degraded"] == ["0.150", "0.500", "0.000", "1", "1"]
    assert lines["clean"] == ["0.505", "0.505", "0.505", "2", "2"]
