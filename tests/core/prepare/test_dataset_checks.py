"""Dataset report: numbers counted by hand, and a finding for each kind of mistake."""

from __future__ import annotations

import csv
import gzip
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sparsevod_core.data.motion import motion_iou
from sparsevod_core.data.records import VideoSet
from sparsevod_core.prepare.checks.classes import ClassCounts, ids_in_words
from sparsevod_core.prepare.checks.findings import NAMED, Finding
from sparsevod_core.prepare.checks.report import DatasetReport, check_datasets
from sparsevod_core.prepare.checks.statistics import (
    BoxColumns,
    histogram,
    histogram_of_counts,
)

Box = tuple[str, Sequence[float], int | None]
"""Class, [x, y, width, height], track."""

CLASSES = {"cat": 1, "dog": 2}


def content(
    videos: dict[str, dict[int, list[Box]]],
    *,
    stills: Sequence[list[Box]] = (),
    classes: dict[str, int] = CLASSES,
    size: tuple[int, int] = (200, 100),
) -> dict[str, Any]:
    """Return COCO-VID content with these boxes by video and frame_id, all frames of one size."""
    result: dict[str, Any] = {
        "categories": [{"id": id_, "name": name} for name, id_ in classes.items()],
        "videos": [{"id": n, "name": name} for n, name in enumerate(videos)],
        "images": [],
        "annotations": [],
    }

    def add(boxes: list[Box], **image: Any) -> None:
        record = {"id": len(result["images"]), "width": size[0], "height": size[1], **image}
        result["images"].append(record)
        for name, bbox, track in boxes:
            box = {"id": len(result["annotations"]), "image_id": record["id"], "bbox": list(bbox)}
            box |= {"category_id": classes[name]}
            result["annotations"].append(box if track is None else box | {"instance_id": track})

    for n, (name, frames) in enumerate(videos.items()):
        for frame_id, boxes in frames.items():
            add(boxes, video_id=n, frame_id=frame_id, file_name=f"{name}/{frame_id:03d}.jpg")
    for n, boxes in enumerate(stills):
        add(boxes, file_name=f"still{n}.jpg")
    return result


def check(folder: Path, sections: dict[str, Any]) -> DatasetReport:
    path = folder / "set.json"
    path.write_text(json.dumps(sections))
    (report,), shared = check_datasets([path])
    assert not shared
    return report


def find(report: DatasetReport, key: str) -> Finding | None:
    found = [finding for finding in report.findings if finding.key == key]
    assert len(found) <= 1
    return found[0] if found else None


def keys(report: DatasetReport) -> set[str]:
    """Return the keys of all findings except those that every dataset below has."""
    return {finding.key for finding in report.findings} - {
        "frames_not_found",
        "rare_classes",
        "empty_classes",
    }


def many(box: Box, frames: int = 12) -> dict[str, dict[int, list[Box]]]:
    return {"v": {n: [box] for n in range(frames)}}


CAT: Box = ("cat", [10, 10, 40, 40], 1)


def test_counts_by_hand(tmp_path: Path) -> None:
    videos = {
        "one": {0: [CAT, ("dog", [0, 0, 20, 10], 2)], 1: [CAT], 2: []},
        "two": {5: [("cat", [10, 10, 100, 100], 1)], 6: [("cat", [10, 10, 100, 100], None)]},
    }
    sections = content(videos, stills=[[("dog", [0, 0, 20, 10], None)], []])
    sections["images"][1]["is_vid_train_frame"] = False
    report = check(tmp_path, sections)
    frames = report.frames
    assert (frames.videos, frames.stills, frames.frames) == (2, 2, 7)
    assert (frames.targets, frames.supports, frames.empty) == (6, 1, 2)
    assert frames.per_video == (2, 2.5, 3) and frames.missing == 0
    assert frames.sizes == ((200, 100, 7),) and frames.num_sizes == 1
    assert report.classes == (
        ClassCounts(1, "cat", boxes=4, target_boxes=3, frames=4, videos=2, tracks=2),
        ClassCounts(2, "dog", boxes=2, target_boxes=2, frames=2, videos=1, tracks=1),
    )
    every, (cat, dog) = report.boxes.all, report.boxes.per_class
    assert (every.small, every.medium, every.large) == (2, 2, 2)  # of 200, 1,600 and 10,000 px²
    assert (cat.median_side_px, dog.small) == (70, 2)
    assert dog.median_side_share == pytest.approx((200 / 20_000) ** 0.5)
    assert report.tracks.all.tracks == 3 and report.tracks.all.untracked == 2
    assert report.tracks.all.lengths == (1, 1, 2)
    assert report.boxes.sides_per_class.sum(axis=1).tolist() == [4, 2]
    assert report.boxes.centers.sum() == report.boxes.aspect.counts.sum() == 6
    assert report.boxes.centers[9, 4] == 2  # (30, 30) in 200x100: column 4.8, row 9.6


def test_small_boxes_are_measured_as_training_sees_them(tmp_path: Path) -> None:
    """Training limits the long side to 1,000 pixels, so a frame of 2000x1000 is halved."""
    box: Box = ("cat", [0, 0, 15, 50], 1)
    assert (
        find(check(tmp_path, content(many(box), size=(600, 600))), "small_after_resizing") is None
    )
    found = find(check(tmp_path, content(many(box), size=(2000, 1000))), "small_after_resizing")
    assert found is not None and found.count == 12 and "data.short_side" in found.advice


def test_a_set_of_one_still(tmp_path: Path) -> None:
    report = check(tmp_path, content({}, stills=[[]], classes={"cat": 0}))
    assert report.frames.per_video is None and report.tracks.all.lengths is None
    assert report.boxes.all.median_side_px is None
    assert find(report, "no_target_boxes") is not None
    json.dumps(report.to_dict(), allow_nan=False)


@pytest.mark.parametrize(
    ("box", "key", "severity"),
    [
        ([300, 10, 20, 20], "boxes_outside", "problem"),
        ([-30, 10, 20, 20], "boxes_outside", "problem"),
        ([0, 0, 210, 50], "boxes_larger_than_frame", "problem"),
        ([190, 10, 20, 20], "boxes_leaving", "remark"),
        ([10, 10, 0, 20], "flat_boxes", "problem"),
        ([0, 0, 200, 100], "whole_image_boxes", "remark"),
        ([10, 10, 90, 8], "extreme_aspect", "remark"),
    ],
)
def test_an_unusual_box_is_reported(
    tmp_path: Path, box: list[float], key: str, severity: str
) -> None:
    sections = content({"v": {0: [CAT], 1: [CAT, ("dog", box, 2)], 2: [CAT]}})
    report = check(tmp_path, sections)
    x, y, w, h = box
    found = find(report, key)
    assert found is not None and (found.count, found.severity) == (1, severity)
    assert found.places == (f"v/001.jpg 200x100: dog [{x:g}, {y:g}, {x + w:g}, {y + h:g}]",)
    assert keys(report) - {"small_after_resizing"} == {key}


@pytest.mark.parametrize("box", [[-1, 0, 50, 50], [151, 51, 50, 50], [10, 10, 80, 8], [0, 0, 1, 1]])
def test_a_box_within_the_tolerance_is_not_reported(tmp_path: Path, box: list[float]) -> None:
    """A box one pixel beyond the border is another convention, not an error."""
    report = check(tmp_path, content({"v": {0: [CAT, ("dog", box, 2)], 1: [CAT]}}))
    assert not keys(report) - {"small_after_resizing"}


def test_duplicates_have_the_same_class_frame_and_position(tmp_path: Path) -> None:
    near: Box = ("cat", [10.5, 10, 40, 40], 2)  # IoU 39.5 / 40.5 = 0.975
    report = check(tmp_path, content({"v": {0: [CAT, near, ("cat", [10, 10.4, 40, 40], 3)]}}))
    found = find(report, "duplicate_boxes")
    assert found is not None and found.count == 2
    assert found.places[0] == "v/000.jpg 200x100: cat [10.5, 10, 50.5, 50]"
    apart = {"v": {0: [CAT, ("dog", CAT[1], 2), ("cat", [14, 10, 40, 40], 3)], 1: [CAT]}}
    assert find(check(tmp_path, content(apart)), "duplicate_boxes") is None


def test_a_crowd_is_not_a_duplicate(tmp_path: Path) -> None:
    sections = content({"v": {0: [CAT, ("cat", CAT[1], 2)], 1: []}})
    sections["annotations"][0]["iscrowd"] = 1
    assert keys(check(tmp_path, sections)) == {"crowds"}


@pytest.mark.parametrize(
    ("boxes", "key"),
    [
        ([[0.1, 0.2, 0.3, 0.4], [0.5, 0.1, 0.2, 0.2]], "relative_boxes"),
        ([[120, 40, 190, 90], [20, 30, 60, 80], [90, 60, 150, 95]], "corner_boxes"),
    ],
)
def test_boxes_in_another_format_are_recognized(
    tmp_path: Path, boxes: list[list[float]], key: str
) -> None:
    report = check(tmp_path, content({"v": {n: [("cat", b, 1)] for n, b in enumerate(boxes)}}))
    found = find(report, key)
    assert found is not None and found.count == len(boxes) and "bbox" in found.advice


def test_more_boxes_than_proposals(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    boxes: list[Box] = [("cat", [*rng.uniform(0, 50, 2), 20, 20], n) for n in range(101)]
    report = check(tmp_path, content({"v": {0: boxes[:100], 1: boxes}}))
    found = find(report, "crowded_frames")
    assert found is not None and found.places == ("v/001.jpg",)


def test_missing_frames_are_counted_only_between_frames(tmp_path: Path) -> None:
    ids = {"gap": (3, 4, 7, 8, 12), "steps": (0, 10, 20, 40), "complete": (5, 6, 7), "one": (9,)}
    videos = {name: {n: [CAT] for n in numbers} for name, numbers in ids.items()}
    report = check(tmp_path, content(videos))
    found = find(report, "missing_frames")
    assert found is not None and found.count == report.frames.missing == 2 + 3 + 1
    assert found.places == (
        "gap: 2 between frame_id 4 and 7",
        "gap: 3 between frame_id 8 and 12",
        "steps: 1 between frame_id 20 and 40",
    )
    assert "in 2 of 4 videos" in found.text
    single = find(report, "single_frame_videos")
    assert single is not None and single.places == ("one",)


def test_videos_without_frames_and_of_changing_size(tmp_path: Path) -> None:
    sections = content({"v": {0: [CAT], 1: [CAT]}, "w": {0: [CAT], 1: [CAT]}})
    sections["videos"].append({"id": 9, "name": "unused"})
    sections["images"][1] |= {"width": 300}
    report = check(tmp_path, sections)
    unused, mixed = find(report, "videos_without_frames"), find(report, "mixed_sizes")
    assert unused is not None and unused.places == ("unused",)
    assert mixed is not None and mixed.places == ("v/001.jpg",)
    assert report.frames.sizes == ((200, 100, 3), (300, 100, 1))


def test_video_files_counted_from_1(tmp_path: Path) -> None:
    sections = content({"v": {1: [CAT], 2: [CAT]}, "w": {1: [CAT], 2: [CAT]}})
    for video in sections["videos"]:
        video["file_name"] = f"{video['name']}.mp4"
    found = find(check(tmp_path, sections), "frames_counted_from_1")
    assert found is not None and found.count == 2
    sections["images"][0]["frame_id"] = 0
    assert find(check(tmp_path, sections), "frames_counted_from_1") is None


def test_tracks(tmp_path: Path) -> None:
    """The same instance id in another video is another track."""
    dog: Box = ("dog", CAT[1], 1)
    videos = {
        "v": {0: [CAT], 1: [], 2: [CAT], 3: [("cat", [100, 10, 40, 40], 1), CAT]},
        "w": {0: [dog], 1: [("dog", CAT[1], None)]},
        "x": {0: [CAT], 1: [dog], 2: [CAT]},
    }
    report = check(tmp_path, content(videos))
    assert report.tracks.all.tracks == 3 and report.tracks.all.with_gaps == 1
    assert [one.tracks for one in report.tracks.per_class] == [2, 1]
    expected = {
        "track_gaps": (1, ()),
        "track_twice": (1, ("v/003.jpg 200x100: cat [10, 10, 50, 50]",)),
        "track_class": (1, ("x: instance_id 1 is cat, dog",)),
        "untracked": (1, ("w/001.jpg 200x100: dog [10, 10, 50, 50]",)),
    }
    for key, (count, places) in expected.items():
        found = find(report, key)
        assert found is not None and (found.count, found.places) == (count, places), key


def test_speeds(tmp_path: Path) -> None:
    """The IoU (with +1) after a shift of s pixels is (40 - s + 1) / (40 + s + 1)."""
    still = {n: [CAT] for n in range(2)}
    medium = {n: [("dog", [10 + 5 * n, 10, 40, 40], 1)] for n in range(2)}  # 36 / 46 = 0.78
    fast = {n: [("dog", [10 + 20 * n, 10, 40, 40], 1)] for n in range(2)}  # 21 / 61
    report = check(tmp_path, content({"a": still, "b": medium, "c": fast}))
    cat, dog = report.tracks.per_class
    assert (cat.fast, cat.medium, cat.slow) == (0, 0, 2)
    assert (dog.fast, dog.medium, dog.slow) == (2, 2, 0)
    counts = report.tracks.motion_iou.counts
    assert (counts[-1], counts[int(0.78 * 50)], counts[int(0.344 * 50)]) == (2, 2, 2)


def test_motion_does_not_depend_on_how_many_videos_are_processed_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sparsevod_core.prepare.checks import tracks as module

    rng = np.random.default_rng(3)
    videos: dict[str, dict[int, list[Box]]] = {}
    for v in range(7):
        length = int(rng.integers(0, 9)) * (v != 3)
        videos[f"v{v}"] = {
            n: [("cat", [*rng.uniform(0, 30, 2), 40, 40], int(rng.integers(0, 3)))]
            for n in range(length)
        } or {0: []}
    path = tmp_path / "set.json"
    path.write_text(json.dumps(content(videos)))
    videos_set = VideoSet.load(path)
    columns, tables = BoxColumns.of(videos_set), videos_set.tables
    expected = np.full(len(tables.labels), np.nan)
    for video in range(videos_set.num_videos):
        own = np.flatnonzero(columns.videos == video)
        expected[own] = motion_iou(
            tables.boxes_xyxy[own],
            tables.frame_ids[columns.frames[own]],
            tables.instance_ids[own],
        )
    for at_once in (1, 5, 1000):
        monkeypatch.setattr(module, "_BOXES_AT_ONCE", at_once)
        np.testing.assert_array_equal(module._motion_iou(videos_set, columns), expected)


def test_missing_classes(tmp_path: Path) -> None:
    classes = {"cat": 0, "dog": 7, "cow": 3, "bat": 4}
    sections = content({"v": {0: [CAT], 1: [("dog", CAT[1], 2)]}}, classes=classes)
    sections["images"][1]["is_vid_train_frame"] = False
    report = check(tmp_path, sections)
    empty, unseen = find(report, "empty_classes"), find(report, "untrained_classes")
    assert empty is not None and empty.places == ("cow: 0", "bat: 0")
    assert unseen is not None and unseen.places == ("dog: 0",)
    ids = find(report, "class_ids")
    assert ids is not None and "0 to 7, without 1, 2, 5, 6" in ids.text


@pytest.mark.parametrize(
    ("ids", "words"),
    [
        ([1, 2, 3], "1 to 3"),
        ([5], "5"),
        ([0, 9], "0 to 9, 8 of them unused"),
        ([3, 1], "1 to 3, without 2"),
        ([-5, 10**12], "-5 to 1000000000000, 1,000,000,000,004 of them unused"),
    ],
)
def test_ids_in_words(ids: list[int], words: str) -> None:
    assert ids_in_words([ClassCounts(id_, str(id_), 0, 0, 0, 0, 0) for id_ in ids]) == words


def test_nothing_to_train_on_is_an_error(tmp_path: Path) -> None:
    sections = content(many(CAT))
    for image in sections["images"]:
        image["is_vid_train_frame"] = False
    found = find(check(tmp_path, sections), "no_targets")
    assert found is not None and found.severity == "error"


def test_findings_are_sorted_and_name_a_limited_number_of_places(tmp_path: Path) -> None:
    boxes = {n: [("cat", [190, 10, 20, 20], 1), ("dog", [300, 0, 5, 5], 2)] for n in range(30)}
    sections = content({"v": boxes})
    sections["annotations"][0]["image_id"] = 99
    report = check(tmp_path, sections)
    severities = [finding.severity for finding in report.findings]
    assert severities == sorted(severities, key=["error", "problem", "remark"].index)
    outside = find(report, "boxes_outside")
    assert outside is not None and outside.count == 30 and len(outside.places) == NAMED


def test_videos_shared_by_two_files(tmp_path: Path) -> None:
    """Videos are identified by name or by path."""
    first, second, third = (tmp_path / f"{name}.json" for name in "abc")
    first.write_text(json.dumps(content({"v": {0: [CAT]}, "w": {0: [CAT]}}, stills=[[CAT]])))
    other = content({"v": {5: [CAT]}, "renamed": {0: [CAT]}, "x": {0: [CAT]}})
    other["images"][1]["file_name"] = "w/000.jpg"
    second.write_text(json.dumps(other))
    third.write_text(json.dumps(content({"y": {0: [CAT]}})))
    reports, (found,) = check_datasets([first, second, third])
    assert len(reports) == 3
    assert (found.severity, found.count, found.places) == ("problem", 2, ("v", "w"))
    assert str(first) in found.text and str(second) in found.text


def test_every_value_is_in_one_bin() -> None:
    for values in ([0], [3, 4, 4], [0, 7, 900], [6, 6, 5213], list(range(1, 400)), [10**6]):
        one = histogram_of_counts(np.array(values))
        assert one.counts.sum() == len(values) and len(one.counts) <= 34
        assert (np.diff(one.edges) > 0).all()
        assert one.edges[0] < min(values) and one.edges[-1] > max(values)
    assert histogram_of_counts(np.array([3, 5, 5])).counts.tolist() == [1, 0, 2]
    assert histogram_of_counts(np.zeros(0, np.int64)).counts.tolist() == [0]
    outside = histogram(np.array([-5.0, 0.5, 7.0]), np.array([0.0, 0.4, 1.0]))
    assert outside.counts.tolist() == [1, 2]


def test_the_json_is_valid_and_complete(tmp_path: Path) -> None:
    result = json.loads(json.dumps(check(tmp_path, content(many(CAT))).to_dict(), allow_nan=False))
    assert result["verdict"] == {"errors": 0, "problems": 2, "remarks": 0}
    assert {finding["key"] for finding in result["findings"]} == {
        "frames_not_found",
        "empty_classes",
    }
    cat = result["classes"][0]
    assert (cat["id"], cat["boxes"], cat["sizes"]["medium"], cat["motion"]["slow"]) == (
        1,
        12,
        12,
        12,
    )
    assert result["boxes"]["boxes"] == result["boxes"]["medium"] == 12
    assert result["tracks"]["lengths"] == [12, 12, 12]
    assert sum(result["histograms"]["motion_iou"]["counts"]) == 12
    assert len(result["histograms"]["centres"]) == 32


def test_the_drones(shared_dir: Path) -> None:
    """The counts match the description of the data."""
    (val,), _ = check_datasets([shared_dir / "data" / "drones" / "val.json"])
    assert (val.frames.videos, val.frames.frames, val.boxes.boxes) == (28, 8791, 9883)
    assert [one.name for one in val.classes] == ["airplane", "bird", "drone", "helicopter"]
    assert val.files.missing == 0 and val.files.opened == 8
    assert val.count("error") == val.count("problem") == 0


def test_speeds_of_imagenet_vid(shared_dir: Path, tmp_path: Path) -> None:
    """Fast, medium and slow boxes of real videos match the values published by FGFA."""
    with gzip.open(shared_dir / "data" / "ilsvrc" / "vid_val_gt_all.csv.gz", "rt") as file:
        rows = [row for _, row in zip(range(8000), csv.DictReader(file), strict=False)]
    by_video: dict[str, list[dict[str, str]]] = {}
    for row in rows:
        by_video.setdefault(row["video"], []).append(row)
    videos: dict[str, dict[int, list[Box]]] = {}
    official = []
    for name, own in by_video.items():
        if len({row["frame"] for row in own}) < len(own):
            continue  # several objects, whose tracks are not in the table
        videos[name] = {}
        for row in own:
            x1, y1, x2, y2 = (float(row[key]) for key in ("xmin", "ymin", "xmax", "ymax"))
            videos[name][int(row["frame"])] = [("cat", [x1, y1, x2 - x1, y2 - y1], 1)]
            official.append(float(row["motion_iou"]))
    assert len(official) > 2000
    motion = np.array(official)
    counts = check(tmp_path, content(videos, size=(1280, 720))).tracks.all
    assert abs(counts.fast - (motion < 0.7).sum()) <= 2
    assert abs(counts.slow - (motion > 0.9).sum()) <= 2
    assert counts.fast + counts.medium + counts.slow == len(motion)
