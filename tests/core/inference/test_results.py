"""Files of detections in every format; expected values are computed by hand."""

from __future__ import annotations

import csv
import json
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from sparsevod_core.errors import ConfigError, DataError
from sparsevod_core.inference.journal import Journal
from sparsevod_core.inference.results import FORMATS, open_results
from sparsevod_core.inference.results.coco import CocoIds
from sparsevod_core.structures import Category, Detections, Frame, FrameDetections

CATEGORIES = (Category(7, "cat, black"), Category(3, "=dog"))
HEADER = {"video": "a.mp4", "width": 200, "height": 100}


def frame(index: int, *found: tuple[list[float], float, int]) -> FrameDetections:
    detections = Detections(
        np.array([box for box, _, _ in found], np.float32).reshape(-1, 4),
        np.array([score for _, score, _ in found], np.float32),
        np.array([label for _, _, label in found], np.int64),
    )
    return FrameDetections(Frame(index, None, np.zeros((100, 200, 3), np.uint8)), detections)


FRAMES = [
    (frame(0, ([10, 20, 50, 40], 0.75, 0), ([0, 0, 200, 100], 0.5, 1)), Fraction(0)),
    (frame(1), Fraction(1001, 30000)),
    (frame(2, ([1.00049, 2, 3, 4.5], 1 / 3, 1)), None),
]


def write(kind: str, path: Path, frames=FRAMES, coco_ids: CocoIds | None = None) -> Path:
    with open_results(kind, path, HEADER, CATEGORIES, coco_ids=coco_ids) as file:
        for found, time_s in frames:
            file.write(found, time_s)
        file.finish(truncated=False)
    return path


def test_json_and_json_lines_have_the_same_content(tmp_path):
    whole = json.loads(write("json", tmp_path / "new" / "a.json").read_text())
    lines = write("jsonl", tmp_path / "a.jsonl").read_text().splitlines()
    header, *frames, ending = map(json.loads, lines)
    assert whole["frames"] == frames
    assert ending == {"num_frames": 3, "truncated": False}
    assert header == {**{key: whole[key] for key in header}, "schema": header["schema"]}
    assert frames[2]["detections"] == [
        {"box_xyxy": [1.0, 2, 3, 4.5], "score": 0.333333, "label": "=dog", "class_id": 3}
    ]
    assert [one["time_s"] for one in frames] == [0, 1001 / 30000, None]


def test_csv_can_be_read_and_contains_no_formula(tmp_path):
    path = write("csv", tmp_path / "a.csv")
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["frame"], row["label"], row["class_id"]) for row in rows] == [
        ("0", "cat, black", "7"),
        ("0", "'=dog", "3"),
        ("2", "'=dog", "3"),
    ]
    assert rows[0]["time_s"] == "0.000000" and rows[2]["time_s"] == ""
    assert [float(rows[0][key]) for key in ("x1", "y1", "x2", "y2")] == [10, 20, 50, 40]


def test_coco_is_what_eval_scores(tmp_path):
    from sparsevod_core.evaluation.score import evaluate_predictions

    path = write("coco", tmp_path / "found.json")
    assert json.loads(path.read_text())[0] == {
        "image_id": 0,
        "category_id": 7,
        "bbox": [10, 20, 40, 20],
        "score": 0.75,
        "video": "a.mp4",
    }
    ids = CocoIds(images={0: 10, 2: 12}, categories=[7, None])
    path = write("coco", tmp_path / "found.json", coco_ids=ids)
    (entry,) = json.loads(path.read_text())  # the class of the others has no id
    assert entry == {"image_id": 10, "category_id": 7, "bbox": [10, 20, 40, 20], "score": 0.75}
    truth = {
        "categories": [{"id": 7, "name": "cat, black"}],
        "images": [
            {"id": i, "file_name": f"{i}.jpg", "width": 200, "height": 100} for i in (10, 11, 12)
        ],
        "annotations": [
            {"id": 1, "image_id": 10, "category_id": 7, "bbox": [10, 20, 40, 20], "area": 800}
        ],
    }
    (tmp_path / "truth.json").write_text(json.dumps(truth))
    found_ap = evaluate_predictions(tmp_path / "truth.json", path).boxes.AP50
    assert found_ap == pytest.approx(1)


def test_coco_without_any_detection_is_an_empty_list(tmp_path):
    assert json.loads(write("coco", tmp_path / "a.json", FRAMES[1:2]).read_text()) == []


def test_mot_counts_from_one_and_has_no_ids(tmp_path):
    first, second, third = write("mot", tmp_path / "det.txt").read_text().splitlines()
    assert first == "1,-1,11.000,21.000,40.000,20.000,0.750000,-1,-1,-1"
    assert second.startswith("1,-1,1.000,1.000,200.000,100.000,0.5")
    assert third.startswith("3,-1,2.000,3.000,2.000,2.500,0.3")


def test_yolo_has_a_file_a_frame(tmp_path):
    folder = write("yolo", tmp_path / "labels")
    assert sorted(path.name for path in folder.iterdir()) == [
        *("000000.txt", "000001.txt", "000002.txt", "classes.txt")
    ]
    assert (folder / "classes.txt").read_text() == "cat, black\n=dog\n"
    assert (folder / "000000.txt").read_text().splitlines() == [
        "0 0.150000 0.300000 0.200000 0.200000 0.750000",
        "1 0.500000 0.500000 1.000000 1.000000 0.500000",
    ]
    assert (folder / "000001.txt").read_text() == ""


def test_yolo_overwrites_no_folder(tmp_path):
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels" / "mine.txt").write_text("precious")
    with pytest.raises(ConfigError, match="already exists"):
        write("yolo", tmp_path / "labels")
    assert (tmp_path / "labels" / "mine.txt").read_text() == "precious"


@pytest.mark.parametrize("kind", FORMATS)
def test_an_exception_leaves_nothing(tmp_path, kind):
    with pytest.raises(KeyError), open_results(kind, tmp_path / "a", HEADER, CATEGORIES) as file:
        file.write(*FRAMES[0])
        raise KeyError
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", FORMATS)
def test_an_unwritable_path_is_an_error(tmp_path, kind):
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="cannot write"):
        open_results(kind, tmp_path / "file" / "a", HEADER, CATEGORIES)


# --- the journal ----------------------------------------------------------------------------------

RUN = {"video": "a.mp4", "supports": 6}


def exact() -> Detections:
    generator = np.random.default_rng(0)
    boxes = generator.random((50, 4), np.float32) * np.float32(1e3)
    return Detections(boxes, generator.random(50, np.float32), np.arange(50))


def journal(path: Path, *, resume: bool = False, run=RUN) -> Journal:
    return Journal(path / "a.jsonl", run, resume=resume)


def test_a_journal_gives_back_every_bit(tmp_path):
    with journal(tmp_path) as first:
        first.write(exact())
        first.write(FRAMES[1][0].detections)
    with journal(tmp_path, resume=True) as again:
        assert again.num_frames == 2
        there, empty = again
        for name in ("boxes_xyxy", "scores", "labels"):
            np.testing.assert_array_equal(getattr(there, name), getattr(exact(), name))
            assert getattr(there, name).dtype == getattr(exact(), name).dtype
        assert len(empty) == 0
        again.write(exact())
    assert len((tmp_path / "a.jsonl").read_text().splitlines()) == 4


@pytest.mark.parametrize("cut", range(1, 60, 7))
def test_a_last_line_that_was_cut_is_dropped(tmp_path, cut):
    with journal(tmp_path) as first:
        first.write(FRAMES[0][0].detections)
        first.write(FRAMES[2][0].detections)
    whole = (tmp_path / "a.jsonl").read_bytes()
    (tmp_path / "a.jsonl").write_bytes(whole[:-cut])
    with journal(tmp_path, resume=True) as again:
        assert again.num_frames == (1 if cut < 60 else 0)
        again.write(FRAMES[2][0].detections)
    assert (tmp_path / "a.jsonl").read_bytes() == whole


def test_an_existing_journal_is_an_error_without_resume(tmp_path):
    with journal(tmp_path) as first:
        first.write(exact())
    with pytest.raises(ConfigError, match="was cut off") as raised:
        journal(tmp_path)
    assert "--resume" in raised.value.hint
    with pytest.raises(ConfigError, match="made with supports 6, this run has 2"):
        journal(tmp_path, resume=True, run={**RUN, "supports": 2})


def test_a_file_that_is_no_journal_is_left_alone(tmp_path):
    (tmp_path / "a.jsonl").write_text("precious")
    with pytest.raises(ConfigError, match="not a journal"):
        journal(tmp_path, resume=True)
    assert (tmp_path / "a.jsonl").read_text() == "precious"


def test_a_journal_without_a_frame_is_not_left(tmp_path):
    with journal(tmp_path):
        pass
    assert list(tmp_path.iterdir()) == []
