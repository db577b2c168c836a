"""Users' own COCO JSON: ids are kept, optional parts may be missing, invalid entries skipped."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from own_sets import HEIGHT, WIDTH, Studio, box_of

from sparsevod_core.errors import ConfigError, DataError
from sparsevod_core.prepare.coco.labels import find_coco
from sparsevod_core.prepare.reading.label_set import Hints
from sparsevod_core.reporting import SilentReporter

SIZE = {"width": WIDTH, "height": HEIGHT}


@pytest.fixture
def studio(tmp_path: Path) -> Studio:
    return Studio(tmp_path)


def bbox(number: int) -> list[float]:
    left, top, right, bottom = box_of(number)
    return [left, top, right - left, bottom - top]


def content(num_frames: int = 3, **video: Any) -> dict[str, Any]:
    """A video with a box in every frame; ids have gaps and start anywhere."""
    return {
        "info": {"description": "mine", "year": 2024},
        "licenses": [],
        "categories": [{"id": 9, "name": "dog", "supercategory": "pet"}, {"id": 4, "name": "cat"}],
        "videos": [{"id": 30, "name": "a", **video}],
        "images": [
            {"id": 7 * n, "video_id": 30, "frame_id": n, "file_name": f"a/{n:06d}.png", **SIZE}
            for n in range(num_frames)
        ],
        "annotations": [
            {"id": 100 + n, "image_id": 7 * n, "category_id": 9, "bbox": bbox(n)}
            for n in range(num_frames)
        ],
    }


def save(studio: Studio, value: Any, name: str = "mine.json") -> Path:
    return studio.write(name, json.dumps(value))


def images(studio: Studio, numbers: range = range(3), folder: str = "a") -> None:
    for number in numbers:
        studio.image(f"{folder}/{number:06d}.png", number)


def test_ids_of_images_and_classes_stay_and_no_tracks_are_needed(studio: Studio) -> None:
    images(studio)
    save(studio, content())
    assert studio.problems("coco") == []
    assert [(n, classes) for n, classes, _ in studio.shown()["a"]] == [(0, [9]), (1, [9]), (2, [9])]
    written = json.loads((studio.out / "all.json").read_text())
    assert written["categories"] == [{"id": 9, "name": "dog"}, {"id": 4, "name": "cat"}]
    assert [image["id"] for image in written["images"]] == [0, 7, 14]
    assert not any({"motion_iou", "instance_id"} & box.keys() for box in written["annotations"])


@pytest.mark.parametrize("key", ["instance_id", "track_id"])
def test_tracks_give_motion(studio: Studio, key: str) -> None:
    images(studio)
    value = content()
    for annotation in value["annotations"]:
        annotation |= {key: 55, "iscrowd": 0, "occluded": True}
    save(studio, value)
    studio.prepare("coco")
    assert studio.shown() == {"a": [(0, [9], [0]), (1, [9], [0]), (2, [9], [0])]}
    written = json.loads((studio.out / "all.json").read_text())
    assert all(0 < box["motion_iou"] < 1 and box["occluded"] for box in written["annotations"])


@pytest.mark.parametrize("first", [0, 1])
def test_frames_of_a_video_file_count_from_zero_or_one(studio: Studio, first: int) -> None:
    studio.video("clips/a.mp4", 3)
    value = content(file_name="clips/a.mp4")
    for image in value["images"]:
        image["frame_id"] += first
        del image["width"], image["height"]
    save(studio, value)
    assert studio.problems("coco") == []
    assert [number for number, _, _ in studio.shown()["a"]] == [0, 1, 2]


def test_a_video_file_that_ends_before_its_annotations(studio: Studio) -> None:
    studio.video("a.mp4", 2)
    save(studio, content(file_name="a.mp4"))
    assert studio.problems("coco") == [
        "a.mp4: annotated up to frame 2 (counted from 0), but only 2 frames decode"
    ]
    assert [number for number, _, _ in studio.shown()["a"]] == [0, 1]


@pytest.mark.parametrize(
    ("folder", "place"),
    [
        ("a", "mine.json"),
        ("images/a", "annotations/mine.json"),
        ("mine/a", "annotations/instances_mine.json"),
        ("all/a", "mine.json"),
    ],
)
def test_images_are_found_from_where_people_put_the_json(
    studio: Studio, folder: str, place: str
) -> None:
    images(studio, folder=folder)
    save(studio, content(), place)
    assert studio.problems("coco") == []
    assert len(studio.shown()["a"]) == 3


def test_images_elsewhere_need_an_option(studio: Studio, tmp_path: Path) -> None:
    save(studio, content())
    with pytest.raises(DataError, match=r"mine.json: a/00000\d.png and the others") as error:
        studio.prepare("coco")
    assert "--images" in str(error.value.hint)
    images(studio)
    (studio.root / "a").rename(tmp_path / "a")
    assert studio.problems("coco", hints=Hints(images=tmp_path)) == []
    with pytest.raises(ConfigError, match="--classes goes with"):
        studio.prepare("coco", hints=Hints(classes=tmp_path))


def test_what_may_be_missing(studio: Studio) -> None:
    """`videos`, `frame_id`, sizes and ids of annotations; names relative to the video's folder."""
    images(studio)
    value = content(file_name="a")
    for image in value["images"]:
        image["file_name"] = image["file_name"].removeprefix("a/")
        del image["frame_id"], image["width"]
    for annotation in value["annotations"]:
        del annotation["id"]
    save(studio, value)
    assert studio.problems("coco") == []
    assert [number for number, _, _ in studio.shown()["a"]] == [0, 1, 2]

    value = content()
    del value["videos"]
    for image in value["images"]:
        del image["video_id"], image["frame_id"]
    save(studio, value)
    assert studio.problems("coco") == []
    assert [number for number, _, _ in studio.shown()["a"]] == [0, 1, 2]


def test_a_number_in_the_name_of_a_folder_is_no_frame_number(studio: Studio) -> None:
    value = content()
    for image, name in zip(value["images"], "xyz", strict=True):
        del image["frame_id"]
        image["file_name"] = f"cam_1/{name}.png"
        studio.image(image["file_name"], image["id"] // 7)
    save(studio, value)
    assert studio.problems("coco") == []
    assert studio.shown() == {"a": [(n, [9], [-1]) for n in range(3)]}


def test_flat_names_without_videos_are_stills_unless_grouped(studio: Studio) -> None:
    value = content()
    del value["videos"]
    for number, image in enumerate(value["images"]):
        studio.image(f"{number:012d}.png", number)
        image |= {"file_name": f"{number:012d}.png"}
        del image["video_id"], image["frame_id"]
    save(studio, value)
    (split,) = studio.prepare("coco")
    assert (split.num_videos, split.num_stills, split.num_boxes) == (0, 3, 3)
    (split,) = studio.prepare("coco", hints=Hints(group_by_folder=True))
    assert (split.num_videos, split.num_frames) == (1, 3)


def test_train_and_val_in_two_files(studio: Studio) -> None:
    images(studio)
    train, val = content(), content(2)
    val["categories"].append({"id": 5, "name": "cow"})
    save(studio, train, "annotations/instances_train2024.json")
    save(studio, val, "annotations/instances_val2024.json")
    result = studio.prepare("coco", output=studio.out)
    assert [(split.split, split.num_frames) for split in result] == [("train", 3), ("val", 2)]
    for split in ("train", "val"):
        written = json.loads((studio.out / f"{split}.json").read_text())
        assert [category["id"] for category in written["categories"]] == [9, 4, 5]
    val["categories"][0]["name"] = "wolf"
    save(studio, val, "annotations/instances_val2024.json")
    with pytest.raises(DataError, match="class 9 is 'wolf', but 'dog'"):
        studio.prepare("coco", output=studio.out)


@pytest.mark.parametrize(
    ("section", "change", "words"),
    [
        ("annotations", {"bbox": [1, 2, 3]}, "annotations[1] (id 101): bbox: expected four"),
        ("annotations", {"bbox": [1, 2, -3, 4]}, "no negative size"),
        ("annotations", {"bbox": [1, 2, float("nan"), 4]}, "finite"),
        ("annotations", {"bbox": [200, 2, 3, 4]}, "annotations[1]: box (200, 2, 203, 6) lies"),
        ("annotations", {"image_id": 8}, "annotations[1]: image_id 8 is not in 'images'"),
        ("annotations", {"category_id": 8}, "annotations[1]: category_id 8 is not in 'categories'"),
        ("images", {"id": "x7"}, "images[1] (id x7): id: expected a whole number"),
        ("images", {"id": 0}, "images[1] (id 0): has the id of images[0]"),
        ("images", {"file_name": "../a.png"}, "stays in the data set's folder"),
        ("images", {"file_name": "/etc/passwd"}, "stays in the data set's folder"),
        ("images", {"file_name": "a/9.png"}, "a/9.png: cannot read the frame"),
        ("images", {"video_id": 8}, "image 7: video_id 8 is not in 'videos'"),
        ("images", {"frame_id": 0}, "image 7: frame 0 of a is already image 0"),
        ("images", {"width": 95}, "a/000001.png: 96x64 pixels, but"),
        ("categories", {"id": None}, "categories[1]: id: expected a whole number"),
    ],
)
def test_an_invalid_entry_is_named_and_skipped(
    studio: Studio, section: str, change: dict[str, Any], words: str
) -> None:
    images(studio)
    value = content()
    value[section][1] |= change
    save(studio, value)
    problems = studio.problems("coco")
    assert words in problems[0].replace(" (id None)", "")
    assert [number for number, _, _ in studio.shown()["a"]][-1] == 2
    with pytest.raises(DataError, match=r"skipped|left out|cannot read"):
        studio.prepare("coco", strict=True)


def test_text_ids_are_refused_in_a_line(studio: Studio) -> None:
    images(studio)
    value = content()
    for image in value["images"]:
        image["id"] = f"frame{image['id']}"
    save(studio, value)
    with pytest.raises(DataError, match="id: expected a whole number, got 'frame0'"):
        studio.prepare("coco")


def test_files_that_are_no_coco(studio: Studio) -> None:
    save(studio, {"images": []})
    with pytest.raises(DataError, match="no 'annotations'"):
        studio.prepare("coco")
    save(studio, content(), "other.json")
    with pytest.raises(DataError, match="2 JSON files, but not one for train and one for val"):
        studio.prepare("coco")


def test_the_drones_convert_as_they_are(shared_dir: Path, tmp_path: Path) -> None:
    """Real video files: ids, boxes and tracks are those of their JSON."""
    root = shared_dir / "data" / "drones"
    labels = find_coco(root / "val.json", Hints(), SilentReporter())
    assert labels.categories[2] == {"id": 3, "name": "drone"}
    source = labels.splits["all"].sources[3]
    video = labels.read(source)
    assert video.problems == []
    original = json.loads((root / "val.json").read_text())
    (entry,) = [entry for entry in original["videos"] if entry["name"] == video.name]
    ids = [image["id"] for image in original["images"] if image["video_id"] == entry["id"]]
    assert [frame.image_id for frame in video.frames] == ids
    assert [frame.number for frame in video.frames] == list(range(entry["num_frames"]))
    boxes = [box for frame in video.frames for box in frame.boxes]
    expected = [box for box in original["annotations"] if box["image_id"] in set(ids)]
    for box, wanted in zip(boxes, expected, strict=True):
        left, top, width, height = wanted["bbox"]
        assert box.box_xyxy == pytest.approx((left, top, left + width, top + height))
        assert (box.class_id, box.track) == (wanted["category_id"], wanted["instance_id"])
        assert box.motion_iou is not None
