"""Choice and order of the worst frames and videos."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sparsevod_core.evaluation.errors.frame_errors import ErrorCounts, FrameErrors
from sparsevod_core.evaluation.errors.report import (
    frame_dict,
    video_dict,
    worst_frames,
    worst_videos,
)
from sparsevod_core.evaluation.metrics.detection_table import DetectionCollector, DetectionTable
from sparsevod_core.evaluation.metrics.ground_truth import GroundTruth
from sparsevod_core.evaluation.metrics.subsets import ap50_by_video
from sparsevod_core.evaluation.score import score

BOX = [10.0, 10, 20, 20]


def make_errors(folder: Path, videos: dict[str, list[tuple[int, int]]], stills: int = 0) -> Any:
    """Return errors: for each frame of each video its numbers of missed boxes and false alarms."""
    images, annotations, found = [], [], []
    frames = [
        (video, index, *counts)
        for video, frames in enumerate(videos.values())
        for index, counts in enumerate(frames)
    ]
    for image, (video, index, missed, false) in enumerate(frames):
        images.append(
            {"id": image, "video_id": video, "frame_id": index, "file_name": f"{image}.jpg"}
        )
        for nth in range(missed):
            box = [40.0 * nth, 0, 20, 20]
            annotations.append({"id": 0, "image_id": image, "category_id": 1, "bbox": box})
        found += [(image, 0, [40.0 * nth, 100, 20, 20], 0.9) for nth in range(false)]
    images += [{"id": len(frames) + still} for still in range(stills)]
    content = {
        "videos": [{"id": number, "name": name} for number, name in enumerate(videos)],
        "images": images,
        "annotations": annotations,
        "categories": [{"id": 1, "name": "car"}],
    }
    (folder / "truth.json").write_text(json.dumps(content))
    truth = GroundTruth.load(folder / "truth.json")
    return FrameErrors(truth, make_table(len(images), found))


def make_table(num_images: int, found: list[tuple[int, int, list[float], float]]) -> DetectionTable:
    images, categories, boxes, scores = zip(*found, strict=True) if found else ((), (), (), ())
    return DetectionTable.grouped(
        num_images,
        np.array(images, dtype=np.int32),
        np.array(categories, dtype=np.int16),
        np.array(boxes, dtype=np.float64).reshape(-1, 4),
        np.array(scores, dtype=np.float64),
    )


def ap50_of(errors: FrameErrors) -> np.ndarray:
    """Return the AP50 of each video for `make_errors`, whose detections are all false."""
    return ap50_by_video(errors.truth, make_table(len(errors.truth.image_ids), []))


def test_frames_rank_by_errors_then_missed_boxes_then_order(tmp_path: Path) -> None:
    one_frame_each = {"a": [(1, 1)], "b": [(0, 2)], "c": [(3, 0)], "d": [(2, 0)], "e": [(0, 0)]}
    errors = make_errors(tmp_path, one_frame_each | {"f": [(2, 0)]})
    frames = worst_frames(errors)
    assert frames == [2, 3, 5, 0, 1]  # e has no errors
    assert errors.counts_of(frames[3]) == ErrorCounts(missed=1, wrong_class=0, false_alarms=1)
    assert worst_frames(errors, 2) == [2, 3]


def test_frames_close_to_a_listed_one_come_last(tmp_path: Path) -> None:
    long = [(1, 0)] * 100
    long[40] = (5, 0)
    errors = make_errors(tmp_path, {"long": long, "short": [(1, 0)]})
    # 40 excludes 10..70. All others are equal: the first is 0, then 71, then the other video.
    assert worst_frames(errors, 4) == [40, 0, 71, 100]
    assert worst_frames(errors, 6) == [40, 0, 1, 2, 71, 100]


def test_a_frame_in_the_json(tmp_path: Path) -> None:
    errors = make_errors(tmp_path, {"a": [(0, 0), (1, 1)]}, stills=1)
    (frame,) = worst_frames(errors)
    assert json.loads(json.dumps(frame_dict(errors, frame))) == {
        "image_id": 1,
        "video": "a",
        "frame_id": 1,
        "file_name": "1.jpg",
        "num_boxes": 1,
        "missed": 1,
        "wrong_class": 0,
        "false_alarms": 1,
        "errors": [
            {
                "kind": "missed",
                "true": "car",
                "predicted": None,
                "score": None,
                "true_xywh": [0, 0, 20, 20],
                "found_xywh": None,
            },
            {
                "kind": "false_alarm",
                "true": None,
                "predicted": "car",
                "score": 0.9,
                "true_xywh": None,
                "found_xywh": [0, 100, 20, 20],
            },
        ],
    }


def test_videos_without_boxes_follow_by_false_alarms(tmp_path: Path) -> None:
    videos = {
        "empty, few": [(0, 1), (0, 0)],
        "missed": [(1, 0), (1, 0)],
        "silent": [(0, 0)],
        "missed, more": [(2, 0), (2, 1)],
        "empty, many": [(0, 1), (0, 2)],
    }
    errors = make_errors(tmp_path, videos)
    names = errors.truth.video_names
    listed = worst_videos(errors, ap50_of(errors))
    assert [(names[one.video], one.AP50) for one in listed] == [
        ("missed, more", 0),  # same AP50 as the other, more errors per frame
        ("missed", 0),
        ("empty, many", None),
        ("empty, few", None),
    ]
    described = video_dict(errors, listed[2])
    assert (described["false_alarms"], described["num_frames"]) == (3, 2)
    assert [frame["image_id"] for frame in described["frames"]] == [7, 8]
    assert len(worst_videos(errors, ap50_of(errors), 1)) == 2  # one with boxes, one without


def test_a_video_shows_the_worst_frame_of_each_quarter(tmp_path: Path) -> None:
    frames = [(0, 0)] * 12
    frames[1] = frames[5] = frames[6] = frames[11] = (1, 0)
    errors = make_errors(tmp_path, {"a": frames})
    (video,) = worst_videos(errors, ap50_of(errors))
    assert video.frames == (1, 5, 6, 11)


def test_a_perfect_result_has_no_worst_frames(tmp_path: Path) -> None:
    errors = make_errors(tmp_path, {"a": [(1, 0), (3, 0)]})
    truth = errors.truth
    found = [
        (int(image), 0, box, 0.9)
        for image, box in zip(truth.images, truth.boxes_xywh.tolist(), strict=True)
    ]
    table = make_table(2, found)
    perfect, ap50 = FrameErrors(truth, table), ap50_by_video(truth, table)
    assert worst_frames(perfect) == worst_videos(perfect, ap50) == []


@pytest.mark.parametrize("seed", range(5))
def test_ap50_of_a_video_equals_that_of_a_set_of_its_frames(tmp_path: Path, seed: int) -> None:
    """Includes crowds, ties, classes without boxes and areas beyond COCO's range."""
    rng = np.random.default_rng(seed)
    num_videos, num_frames, num_classes = 4, 5, 3
    images = [
        {"id": v * num_frames + f, "video_id": v, "frame_id": f}
        for v in range(num_videos)
        for f in range(num_frames)
    ]
    annotations, found = [], []
    for image in images[num_frames:]:  # the first video has no boxes
        for _ in range(rng.integers(4)):
            box = [*rng.integers(0, 20, 2).tolist(), *rng.integers(5, 15, 2).tolist()]
            odd = {"iscrowd": int(rng.random() < 0.1), "area": 1e11 if rng.random() < 0.1 else 100}
            category = int(rng.integers(num_classes - 1))
            annotations.append(
                {"id": 0, "image_id": image["id"], "category_id": category, "bbox": box} | odd
            )
            for _ in range(rng.integers(3)):
                near = (np.array(box) + rng.integers(-2, 3, 4)).clip(1).astype(float).tolist()
                label = int(rng.integers(num_classes))
                found.append((image["id"], label, near, float(rng.integers(1, 8)) / 8))
    content = {
        "images": images,
        "annotations": annotations,
        "categories": [{"id": k, "name": str(k)} for k in range(num_classes)],
    }
    (tmp_path / "truth.json").write_text(json.dumps(content))
    truth = GroundTruth.load(tmp_path / "truth.json")
    table = make_table(len(images), found)
    for video, ap50 in enumerate(ap50_by_video(truth, table).tolist()):
        own = [image["id"] for image in images if image["video_id"] == video]
        part = truth.restricted_to(own)
        collector = DetectionCollector(part)
        for image in own:
            span = table.of_image(image)
            collector.update(
                image, table.boxes_xywh[span], table.scores[span], table.categories[span].tolist()
            )
        expected = score(part, collector.table()).boxes.AP50
        assert ap50 == pytest.approx(expected, abs=1e-12, nan_ok=True)
        assert math.isnan(ap50) == (video == 0)
