"""Error report of an evaluation: its JSON, its figures and its images of real frames."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sparsevod_core.evaluation.figures import draw_figures
from sparsevod_core.evaluation.score import Evaluation, evaluate_predictions
from sparsevod_core.reporting import SilentReporter


class Recorder(SilentReporter):
    """Reporter that records its lines."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def message(self, text: str) -> None:
        self.lines.append(text)

    def warning(self, text: str) -> None:
        self.lines.append(f"warning: {text}")


def write_predictions(annotations: Path, folder: Path) -> Path:
    """Write predictions: squares as bars, no bars after frame 10, a false alarm in frame 4."""
    content = json.loads(annotations.read_text())
    frames = {image["id"]: image for image in content["images"]}
    found = []
    for box in content["annotations"]:
        if box["category_id"] == 7 or frames[box["image_id"]].get("frame_id", 0) <= 10:
            entry = {"image_id": box["image_id"], "category_id": 3, "bbox": box["bbox"]}
            found.append(entry | {"score": 0.8})
    empty = next(i["id"] for i in content["images"] if i.get("frame_id") == 4)
    found.append({"image_id": empty, "category_id": 7, "bbox": [60, 30, 20, 20], "score": 0.6})
    (folder / "found.json").write_text(json.dumps(found))
    return folder / "found.json"


@pytest.fixture
def evaluation(image_set: Any, tmp_path: Path) -> Evaluation:
    return evaluate_predictions(
        image_set.annotations, write_predictions(image_set.annotations, tmp_path)
    )


def test_the_json_has_confusion_and_worst_frames_and_videos(evaluation: Evaluation) -> None:
    reported = evaluation.with_errors()
    assert reported.table is None and reported.truth is None  # large and no longer needed
    result = json.loads(json.dumps(reported.to_dict(), allow_nan=False))
    assert result["AP50"] == evaluation.boxes.AP50
    assert result["confusion"]["top"][0] == {
        "true": "square",
        "predicted": "bar",
        "count": 31,
        "share": 1.0,
    }
    first = result["worst_frames"][0]
    assert (first["video"], first["missed"], first["wrong_class"]) == ("long", 1, 1)
    assert first["file_name"] == f"long/{first['frame_id']:06d}.png"
    assert [error["kind"] for error in first["errors"]] == ["missed", "wrong_class"]
    # Squares score 0. Bars score 0.5 where all are detected: every second detection is a square.
    assert [video["video"] for video in result["worst_videos"]] == ["long", "narrow", "single"]
    assert result["worst_videos"][1]["AP50"] == pytest.approx(0.25)


def test_an_error_report_needs_detections(evaluation: Evaluation) -> None:
    with pytest.raises(ValueError, match="does not have its detections"):
        evaluation.with_errors().with_errors()


def test_figures_and_images_of_image_folders(
    evaluation: Evaluation, image_set: Any, tmp_path: Path
) -> None:
    out, recorder = tmp_path / "out", Recorder()
    (out / "worst_frames").mkdir(parents=True)
    (out / "worst_frames" / "07_of_an_earlier_run.jpg").write_bytes(b"")
    (out / "worst_frames" / "mine.txt").write_bytes(b"")
    reported = evaluation.with_errors()
    draw_figures({"a": reported}, out, reporter=recorder)
    assert recorder.lines == []
    assert {path.name for path in out.iterdir()} == {
        "ap_by_iou.png",
        "ap_by_iou.pdf",
        "precision_recall.png",
        "precision_recall.pdf",
        "confusion.png",
        "worst_frames",
        "worst_frames.png",
        "worst_videos",
        "worst_videos.png",
    }
    frames = reported.to_dict()["worst_frames"]
    images = sorted(path.name for path in (out / "worst_frames").iterdir())
    assert len(images) == len(frames) + 1 and images[-1] == "mine.txt"
    first = frames[0]
    assert images[0] == f"01_long_{first['frame_id']:06}.jpg"

    drawn = read(out / "worst_frames" / images[0])
    frame = image_set.images["long"][first["frame_id"]]
    assert drawn.shape == frame.shape
    x, y, width, height = first["errors"][0]["true_xywh"]  # the missed bar is blue, tinted red
    inside = np.s_[int(y) + 8 : int(y + height) - 8, int(x) + 3 : int(x + width) - 3, 0]
    assert drawn[inside].mean() > frame[inside].mean() + 30


def test_images_of_video_files(video_set: Any, tmp_path: Path) -> None:
    found = write_predictions(video_set.annotations, tmp_path)
    result = evaluate_predictions(video_set.annotations, found)
    draw_figures({"a": result.with_errors()}, tmp_path / "out", reporter=Recorder())
    assert read(tmp_path / "out" / "worst_videos.png").shape[1] > 1000
    shown = {path.name for path in (tmp_path / "out" / "worst_videos").iterdir()}
    assert len([name for name in shown if name.startswith("01_long_")]) == 4
    assert "03_single_000000.jpg" in shown


def test_missing_frames_are_reported_once(evaluation: Evaluation, tmp_path: Path) -> None:
    recorder, out = Recorder(), tmp_path / "out"
    reported = evaluation.with_errors()
    draw_figures({"a": reported}, out, root=tmp_path, reporter=recorder)
    (warning,) = recorder.lines
    assert "no images of the worst frames (--root" in warning and "long/0000" in warning
    assert not (out / "worst_frames.png").exists()
    assert (out / "confusion.png").exists()
    assert reported.to_dict()["worst_frames"]


def test_annotations_without_file_names_have_no_images(tmp_path: Path) -> None:
    truth = {
        "images": [{"id": "a"}],
        "categories": [{"id": 1, "name": "car"}],
        "annotations": [{"id": 1, "image_id": "a", "category_id": 1, "bbox": [0, 0, 9, 9]}],
    }
    (tmp_path / "truth.json").write_text(json.dumps(truth))
    (tmp_path / "found.json").write_text("[]")
    result = evaluate_predictions(tmp_path / "truth.json", tmp_path / "found.json")
    recorder = Recorder()
    draw_figures({"a": result.with_errors()}, tmp_path / "out", reporter=recorder)
    assert [text.startswith("warning: no images") for text in recorder.lines] == [True]


def test_a_perfect_result_has_no_worst_images(image_set: Any, tmp_path: Path) -> None:
    content = json.loads(image_set.annotations.read_text())
    perfect = [
        {key: box[key] for key in ("image_id", "category_id", "bbox")} | {"score": 0.9}
        for box in content["annotations"]
    ]
    (tmp_path / "found.json").write_text(json.dumps(perfect))
    result = evaluate_predictions(image_set.annotations, tmp_path / "found.json")
    reported = result.with_errors()
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "worst_frames.png").write_bytes(b"")
    draw_figures({"a": reported}, tmp_path / "out", reporter=Recorder())
    assert reported.errors is not None
    assert reported.errors.frames == reported.errors.videos == []
    assert not (tmp_path / "out" / "worst_frames.png").exists()  # not even one of an earlier run


def test_several_results_share_their_curves(evaluation: Evaluation, tmp_path: Path) -> None:
    reported, recorder = evaluation.with_errors(), Recorder()
    draw_figures({"a": reported, "b": reported}, tmp_path / "out", root=tmp_path, reporter=recorder)
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {
        "ap_by_iou.png",
        "ap_by_iou.pdf",
        "precision_recall.png",
        "precision_recall.pdf",
        "a",
        "b",
    }
    assert (tmp_path / "out" / "b" / "confusion.png").exists()


def read(path: Path) -> np.ndarray:
    from PIL import Image

    return np.asarray(Image.open(path))
