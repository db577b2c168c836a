"""Invalid entries: each kind is found and counted, and the rest forms a set."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from sparsevod_core.data.records import VideoSet
from sparsevod_core.errors import DataError
from sparsevod_core.prepare.checks.report import DatasetReport, check_datasets

SOUND: dict[str, Any] = {
    "categories": [{"id": 4, "name": "cat"}, {"id": 9, "name": "dog"}],
    "videos": [
        {"id": 1, "name": "v", "width": 100, "height": 80},
        {"id": 2, "name": "film", "file_name": "film.mp4", "width": 100, "height": 80},
    ],
    "images": [
        {"id": 10 + n, "video_id": 1 + n // 4, "frame_id": n % 4, "file_name": f"v/{n}.jpg"}
        for n in range(8)
    ],
    "annotations": [
        {"id": n, "image_id": 10 + n, "category_id": 4 + 5 * (n % 2), "bbox": [n, n, 20, 20]}
        for n in range(8)
    ],
}


def check(folder: Path, sections: dict[str, Any]) -> DatasetReport:
    path = folder / "set.json"
    path.write_text(json.dumps(sections))
    (report,), _ = check_datasets([path])
    return report


def errors(report: DatasetReport) -> dict[str, tuple[str, ...]]:
    return {one.key: one.places for one in report.findings if one.severity == "error"}


def test_a_sound_file_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr("sparsevod_core.prepare.checks.report.find_invalid_entries")
    report = check(tmp_path, SOUND)
    assert report.is_complete and not errors(report) and report.boxes.boxes == 8


@pytest.mark.parametrize(
    ("section", "changes", "key", "places", "boxes_left"),
    [
        ("categories", {1: {"name": 7}}, "broken_categories", ["name: expected text"], 4),
        ("categories", {1: {"name": "cat"}}, "repeated_categories",
         ["(id 9): has the name 'cat' of categories[0]"], 4),
        ("videos", {1: {"name": 5}}, "broken_videos", ["name: expected text"], 4),
        ("images", {5: {"file_name": ""}}, "broken_images", ["file_name: expected text"], 7),
        ("images", {5: {"width": -1}}, "broken_images", ["width: expected a size"], 7),
        ("images", {5: {"video_id": 7}}, "unknown_videos", ["(id 15): video_id 7 is not"], 7),
        ("images", {5: {"frame_id": 0}}, "repeated_frames",
         ["(id 15): has the video_id 2 and the frame_id 0 of images[4]"], 7),
        ("images", {4: {"frame_id": -3}}, "negative_frame_ids",
         ["(id 14): frame_id: expected an index in the video file, counted from 0, got -3"], 7),
        ("images", {5: {"video_id": None}}, "no_size",
         ["(id 15): `height` and `width` are missing"], 7),
        ("annotations", {5: {"bbox": [1, 2, 3]}}, "broken_annotations", ["four numbers"], 7),
        ("annotations", {2: {"image_id": 5}, 6: {"image_id": 6}}, "unknown_images",
         ["(id 2): image_id 5", "(id 6): image_id 6"], 6),
        ("annotations", {5: {"category_id": 5}}, "unknown_categories", ["category_id 5"], 7),
        ("annotations", {5: {"bbox": [9, 9, -4, 2]}}, "impossible_boxes",
         ["got [9.0, 9.0, -4.0, 2.0]"], 7),
        ("annotations", {5: {"bbox": [9, 9, 1e39, 2]}}, "impossible_boxes", ["1e+39"], 7),
        ("annotations", {5: {"id": 4}}, "repeated_annotation_ids",
         ["(id 4): has the id of annotations[4]"], 8),
    ],
)  # fmt: skip
def test_each_kind_is_counted_and_the_rest_stays(
    tmp_path: Path,
    section: str,
    changes: dict[int, dict[str, Any]],
    key: str,
    places: list[str],
    boxes_left: int,
) -> None:
    """Loading refuses what the check reports; no other entry is reported with it."""
    sections = copy.deepcopy(SOUND)
    for position, fields in changes.items():
        sections[section][position] |= fields
    report = check(tmp_path, sections)
    with pytest.raises(DataError):
        VideoSet.load(report.file)
    found = errors(report)
    assert set(found) == {key} and not report.is_complete
    assert len(found[key]) == len(places)
    for position, place, words in zip(changes, found[key], places, strict=True):
        assert place.startswith(f"{section}[{position}] (id ") and words in place
    assert report.boxes.boxes == boxes_left


@pytest.mark.parametrize(
    ("section", "own_id", "repeated_id", "place", "left_behind"),
    [
        (
            "categories",
            9,
            4,
            "categories[1] (id 4): has the id of categories[0]",
            "unknown_categories",
        ),
        ("videos", 2, 1, "videos[1] (id 1): has the id of videos[0]", "unknown_videos"),
        ("images", 15, 13, "images[5] (id 13): has the id of images[3]", "unknown_images"),
    ],
)  # fmt: skip
def test_a_repeated_id_leaves_others_without_their_entry(
    tmp_path: Path, section: str, own_id: int, repeated_id: int, place: str, left_behind: str
) -> None:
    sections = copy.deepcopy(SOUND)
    (entry,) = (one for one in sections[section] if one["id"] == own_id)
    entry["id"] = repeated_id
    found = errors(check(tmp_path, sections))
    repeated = {"videos": "repeated_video_ids", "images": "repeated_image_ids"}
    assert found.keys() == {repeated.get(section, "repeated_categories"), left_behind}
    assert found[repeated.get(section, "repeated_categories")] == (place,)
    assert all(f" {own_id}" in one for one in found[left_behind])


def test_everything_at_once(tmp_path: Path) -> None:
    sections = copy.deepcopy(SOUND)
    sections["images"] += ["text", {"id": 99, "file_name": "still.jpg"}]
    sections["annotations"][0]["bbox"] = [0, 0, float("nan"), 5]
    sections["annotations"][3]["image_id"] = 98
    sections["annotations"].append({"id": 2**70, "image_id": 99, "category_id": 4})
    found = errors(check(tmp_path, sections))
    assert found == {
        "broken_images": ("images[8]: expected an object, got 'text'",),
        "broken_annotations": (
            f"annotations[8] (id {2**70}): id: expected a whole number, got {2**70}",
        ),
        "no_size": ("images[9] (id 99): `height` and `width` are missing, in its video too",),
        "unknown_images": ("annotations[3] (id 3): image_id 98 is not in 'images'",),
        "impossible_boxes": (
            "annotations[0] (id 0): bbox: expected four finite numbers [x, y, width, height] and "
            "no negative size, got [0.0, 0.0, nan, 5.0]",
        ),
    }  # fmt: skip


def test_the_user_is_told_why_every_entry_is_checked(tmp_path: Path) -> None:
    warnings: list[str] = []

    class Listener:
        def message(self, text: str) -> None:
            pass

        def warning(self, text: str) -> None:
            warnings.append(text)

        def progress(self, *_: object) -> Any:
            from sparsevod_core.reporting import SilentReporter

            return SilentReporter().progress("", None)

    path = tmp_path / "set.json"
    path.write_text(json.dumps({**SOUND, "categories": SOUND["categories"][:1]}))
    check_datasets([path], reporter=Listener())
    assert len(warnings) == 1 and "category_id 9" in warnings[0]


def test_an_unreadable_file_is_one_error(tmp_path: Path) -> None:
    path = tmp_path / "set.json"
    for text, words in (
        ('{"images": [', "not valid JSON"),
        ('{"images": [], "annotations": []}', "no 'categories'"),
        (
            json.dumps({**SOUND, "images": [1, 2]}),
            "'images' is empty after skipping broken entries",
        ),
    ):
        path.write_text(text)
        with pytest.raises(DataError, match=words):
            check_datasets([path])
    with pytest.raises(DataError, match="cannot be read"):
        check_datasets([tmp_path / "none.json"])


def test_a_name_that_leaves_the_root_is_refused(tmp_path: Path) -> None:
    sections = copy.deepcopy(SOUND)
    sections["images"][0]["file_name"] = "../../secret.jpg"
    with pytest.raises(DataError, match="leaves the root"):
        check(tmp_path, sections)
