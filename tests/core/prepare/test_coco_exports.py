"""COCO JSON as tools export it: layouts, names of fields, forms of boxes, and splits."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from own_sets import HEIGHT, WIDTH, Messages, Studio, box_of

from sparsevod_core.errors import DataError
from sparsevod_core.prepare.conversion.prepared_split import PreparedSplit
from sparsevod_core.prepare.reading.label_set import Hints

Fields = Callable[[int], dict[str, Any]]


@pytest.fixture
def studio(tmp_path: Path) -> Studio:
    return Studio(tmp_path)


def nothing(number: int) -> dict[str, Any]:
    return {}


def export(
    studio: Studio,
    names: str,
    *,
    files: str | None = None,
    place: str = "mine.json",
    numbers: range = range(4),
    image: Fields = nothing,
    box: Fields = nothing,
    **sections: Any,
) -> None:
    """Write images with a box each, and the JSON; `names` and `files` have the frame's number."""
    for number in numbers:
        studio.image((names if files is None else files).format(number), number)
    left_top = [box_of(number) for number in numbers]
    boxes = [[x, y, right - x, bottom - y] for x, y, right, bottom in left_top]
    size = {"width": WIDTH, "height": HEIGHT}
    value = {
        "categories": [{"id": 1, "name": "dog"}],
        "images": [{"id": n, "file_name": names.format(n), **size} | image(n) for n in numbers],
        "annotations": [
            {"id": n, "image_id": n, "category_id": 1, "bbox": bbox, "area": 384} | box(n)
            for n, bbox in zip(numbers, boxes, strict=True)
        ],
    }
    studio.write(place, json.dumps(value | sections))


def convert(studio: Studio, **options: Any) -> tuple[PreparedSplit, list[str]]:
    messages = Messages()
    (split,) = studio.prepare("auto", reporter=messages, **options)
    return split, [text.replace(f"{studio.root}", "SET") for text in messages.messages]


def written(studio: Studio) -> list[dict[str, Any]]:
    return json.loads((studio.out / "all.json").read_text())["annotations"]


def test_everything_as_text(studio: Studio) -> None:
    def image(n: int) -> dict[str, Any]:
        ids = {"id": str(n), "video_id": "1", "frame_id": str(n), "prev_image_id": str(n - 1)}
        return ids | {"width": f"{WIDTH}", "height": f"{HEIGHT}"}

    def box(n: int) -> dict[str, Any]:
        ids = {"id": str(n), "image_id": str(n), "category_id": "1", "instance_id": "1"}
        left, top, right, bottom = box_of(n)
        sides = [str(side) for side in (left, top, right - left, bottom - top)]
        numbers = {"bbox": sides, "area": "384"}
        return ids | numbers | {"iscrowd": "0", "ignore": "false", "occluded": "no"}

    export(studio, "a/{:04}.png", image=image, box=box, videos=[{"id": "1", "name": "a"}])
    split, _ = convert(studio)
    assert split.problems == [] and split.num_boxes == 4
    assert not any(box["iscrowd"] or box["occluded"] for box in written(studio))
    assert [number for number, _, _ in studio.shown()["a"]] == [0, 1, 2, 3]


def test_boxes_to_ignore_are_crowds_and_unclear_flags_are_named(studio: Studio) -> None:
    flags: list[Any] = [{"ignore": 1}, {"ignore": "True", "iscrowd": 0}, {"ignore": 0.0}, {}]
    flags[3] = {"iscrowd": "perhaps"}
    export(studio, "a/{:04}.png", box=lambda n: flags[n])
    split, _ = convert(studio)
    assert [box["iscrowd"] for box in written(studio)] == [1, 1, 0]
    (problem,) = split.problems
    assert "annotations[3] (id 3): iscrowd: expected 0, 1, true or false, got 'perhaps'" in problem


def test_levels_of_occlusion_do_not_cost_the_box(studio: Studio) -> None:
    export(studio, "a/{:04}.png", box=lambda n: {"occluded": n})
    split, _ = convert(studio)
    assert [box["occluded"] for box in written(studio)] == [False, True, False, False]
    (problem,) = split.problems
    assert "`occluded` is unclear in 2 annotations and read as false; annotation 2:" in problem


def test_support_frames_marked_in_words(studio: Studio) -> None:
    export(studio, "a/{:04}.png", image=lambda n: {"is_vid_train_frame": ["no", "yes"][n % 2]})
    split, _ = convert(studio)
    assert split.num_targets == 2


def test_tracks_in_attributes_make_a_video_of_numbered_frames(studio: Studio) -> None:
    def box(n: int) -> dict[str, Any]:
        return {"attributes": {"track_id": 0, "occluded": n == 1, "keyframe": n == 0}}

    names = "{:06}.png"
    place = "annotations/instances_default.json"
    export(studio, names, files=f"images/default/{names}", place=place, box=box)
    split, messages = convert(studio)
    assert (split.num_videos, split.num_frames, split.num_stills) == (1, 4, 0)
    assert studio.shown() == {"video": [(n, [1], [0]) for n in range(4)]}
    assert [box["occluded"] for box in written(studio)] == [False, True, False, False]
    assert [box["generated"] for box in written(studio)] == [False, True, True, True]
    assert all(0 < box["motion_iou"] < 1 for box in written(studio))
    assert any("4 images without a video are frames of one" in text for text in messages)


def test_the_motion_of_tracks_in_attributes(studio: Studio) -> None:
    boxes = [
        {"id": 2 * n + track, "image_id": n, "category_id": 1, "area": 400, "iscrowd": 0}
        | {"bbox": [6 * n * (track == 0), 30 * track, 20, 20]}
        | {"attributes": {"track_id": track, "occluded": track == 1}}
        for n in range(4)
        for track in range(2)
    ]
    export(studio, "frame_{:06}.png", annotations=boxes)
    assert convert(studio)[0].problems == []
    found = [(box["instance_id"], box["occluded"], box["motion_iou"]) for box in written(studio)]
    assert len({instance for instance, _, _ in found}) == 2
    assert {(occluded, iou < 0.7, iou == 1) for _, occluded, iou in found} == {
        (False, True, False),
        (True, False, True),
    }


@pytest.mark.parametrize(
    ("image", "box", "is_video"),
    [
        (nothing, lambda n: {"track_id": n}, False),  # no object is in two images
        (nothing, lambda n: {"track_id": -1}, False),  # -1 is no track
        (lambda n: {"frame_number": n}, nothing, True),
        (lambda n: {"frame_index": n // 2}, nothing, False),  # two frames have one number
        (lambda n: {"prev_image_id": n - 1}, nothing, True),
        (lambda n: {"prev_image_id": n - 1 if n % 2 else -1}, nothing, False),  # two videos
        (lambda n: {"video": "clip", "frame_id": n}, nothing, True),
    ],
)
def test_what_makes_a_video_of_images(
    studio: Studio, image: Fields, box: Fields, is_video: bool
) -> None:
    export(studio, "{:06}.png", image=image, box=box)
    split, _ = convert(studio)
    assert (split.num_frames, split.num_stills) == ((4, 0) if is_video else (0, 4))
    assert split.problems == []
    assert all("instance_id" not in box for box in written(studio)) or not is_video


@pytest.mark.parametrize("listed", [True, False])
def test_videos_with_names_instead_of_ids(studio: Studio, listed: bool) -> None:
    videos = [{"id": "b", "name": "bee"}, {"id": "a"}] if listed else []
    image: Fields = lambda n: {"video_id": "ab"[n % 2], "frame_number": n}  # noqa: E731
    export(studio, "{:06}.png", image=image, videos=videos)
    split, _ = convert(studio)
    assert split.problems == [] and split.num_videos == 2
    assert set(studio.shown()) == ({"bee", "a"} if listed else {"a", "b"})


def test_boxes_from_polygons_and_rotated_ones(studio: Studio) -> None:
    left, top, right, bottom = box_of(0)
    outline = [left, top, right, top, right, bottom, left, bottom]
    shapes: list[dict[str, Any]] = [
        {"bbox": [], "segmentation": [outline]},
        {"bbox": None, "segmentation": outline},
        {"bbox": [20, 20, 20, 10], "attributes": {"rotation": 90.0}},
        {"bbox": None, "segmentation": {"counts": "abc", "size": [4, 4]}},
    ]
    export(studio, "a/{:04}.png", box=lambda n: shapes[n])
    split, messages = convert(studio)
    first = [left, top, right - left, bottom - top]
    assert [box["bbox"] for box in written(studio)] == [first, first, [25, 15, 10, 20]]
    (problem,) = split.problems
    assert "`bbox` is missing, and `segmentation` is not a list of polygons" in problem
    assert "SET: without `bbox`, taken around polygons: 2 boxes" in messages
    assert "SET: rotated, replaced by the extent: 1 box" in messages


@pytest.mark.parametrize(
    ("box", "words"),
    [
        (lambda n: {"bbox": list(box_of(n))}, "corners .* as `area` shows"),
        (lambda n: {"bbox": [50, 30 + n, 90, 60], "area": None}, "corners .*4 would leave"),
        (lambda n: {"bbox": [0.1, 0.2, 0.3, 0.4 + n / 10]}, "fractions of the image"),
    ],
)
def test_boxes_of_another_form_are_refused(studio: Studio, box: Fields, words: str) -> None:
    export(studio, "a/{:04}.png", box=box)
    with pytest.raises(DataError, match=words):
        convert(studio)


@pytest.mark.parametrize("bbox", ["1234", "[1, 2, 3, 4]", {"1": 2, "3": 4, "5": 6, "7": 8}])
def test_a_box_that_is_no_list_is_named(studio: Studio, bbox: Any) -> None:
    export(studio, "a/{:04}.png", box=lambda n: {"bbox": bbox} if n else {})
    split, _ = convert(studio)
    assert split.num_boxes == 1 and len(split.problems) == 3


@pytest.mark.parametrize(
    ("categories", "words"),
    [
        ({"1": "dog"}, "expected a list `categories`"),
        (["dog"], "`categories`: no class: .*expected an object, got 'dog'"),
        ([], "`categories`: no class: it is empty"),
    ],
)
def test_categories_of_another_form(studio: Studio, categories: Any, words: str) -> None:
    export(studio, "a/{:04}.png", categories=categories)
    with pytest.raises(DataError, match=words):
        convert(studio)


@pytest.mark.parametrize(
    ("names", "files", "place"),
    [
        ("a/img1/{}.png", "train/a/img1/{}.png", "annotations/val_half.json"),
        ("/home/me/set/a/{}.png", "images/a/{}.png", "mine.json"),
        ("C:\\Users\\me\\a\\{}.png", "images/a/{}.png", "annotations/mine.json"),
        ("../images/a/{}.png", "images/a/{}.png", "annotations/mine.json"),
        ("data/images/a/{}.png", "a/{}.png", "mine.json"),
        ("images\\a\\{}.png", "images/a/{}.png", "result.json"),
        ("/data/local-files/?d=project/a/{}.png", "images/a/{}.png", "result.json"),
        ("a/{}.png", "data/a/{}.png", "labels.json"),
    ],
)
def test_names_that_start_elsewhere(studio: Studio, names: str, files: str, place: str) -> None:
    export(studio, names, files=files, place=place)
    split, messages = convert(studio, root=studio.root / place)
    assert split.problems == [] and len(studio.shown().popitem()[1]) == 4
    assert len(messages) > 1 or place in ("result.json", "labels.json")


def test_names_that_fit_nowhere_or_in_several_folders(studio: Studio) -> None:
    export(studio, "{}.png", files="clip1/{}.png")
    export(studio, "{}.png", files="clip2/{}.png")
    with pytest.raises(DataError, match=r"several folders: .*clip1, .*clip2") as error:
        convert(studio)
    assert "--images" in str(error.value.hint)
    split, _ = convert(studio, hints=Hints(images=studio.root / "clip1"))
    assert split.num_stills == 4
    export(studio, "/etc/x{}.png", files="other/y{}.png")
    with pytest.raises(DataError, match=r"/etc/x0.png and the others .* in none of: .*/set"):
        convert(studio)


def test_an_absolute_name_cannot_reach_a_file_outside(studio: Studio, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    export(studio, f"{outside}/a/{{}}.png", files="../outside/a/{}.png")
    with pytest.raises(DataError, match="in none of"):
        convert(studio)


def test_roboflow_has_a_file_in_the_folder_of_each_split(studio: Studio) -> None:
    names = "clip_mp4-{}_png.rf.0123456789abcdef.png"
    for split in ("train", "valid", "test"):
        export(studio, names, files=f"{split}/{names}", place=f"{split}/_annotations.coco.json")
    messages = Messages()
    train, val = studio.prepare("auto", output=studio.out, reporter=messages)
    assert (train.split, train.num_frames, val.split, val.num_frames) == ("train", 4, "val", 4)
    assert "left out: test/_annotations.coco.json" in messages.messages[-1]
    assert [len(studio.shown(split.file)["clip_mp4"]) for split in (train, val)] == [4, 4]


def test_instances_are_preferred_to_other_tasks_of_coco(studio: Studio) -> None:
    for split in ("train", "val"):
        for task in ("captions", "instances", "person_keypoints"):
            place = f"annotations/{task}_{split}2017.json"
            export(studio, "{:012}.png", files=f"{split}2017/{{:012}}.png", place=place)
    train, _ = studio.prepare("auto", output=studio.out)
    assert train.num_stills == 4
    studio.write("annotations/instances_train_clean.json", b'{"images": []}')
    with pytest.raises(DataError, match="7 JSON files, but not one for train and one for val"):
        studio.prepare("auto", output=studio.out)


def test_halves_of_a_split_are_never_mixed(studio: Studio) -> None:
    halves = {"train_half": range(2), "val_half": range(2, 4), "train": range(4)}
    for name, numbers in halves.items():
        place = f"annotations/{name}.json"
        export(studio, "a/{:04}.png", place=place, numbers=numbers)
    with pytest.raises(DataError, match=r"train.json, .*train_half.json, .*val_half.json") as error:
        studio.prepare("auto", output=studio.out)
    assert "one file at a time" in str(error.value.hint)
    (studio.root / "annotations/train.json").unlink()
    for split in studio.prepare("auto", output=studio.out):
        assert split.num_frames == 2 and not split.problems


def test_a_half_whose_frames_count_from_1_again(studio: Studio) -> None:
    names = "SEQ-02/img1/{:06}.png"
    export(
        studio,
        names,
        files=f"train/{names}",
        place="annotations/val_half.json",
        numbers=range(4, 7),
        image=lambda n: {"video_id": 1, "frame_id": n - 3, "prev_image_id": n - 1 if n > 4 else -1},
        box=lambda n: {"track_id": 7},
        videos=[{"id": 1, "file_name": "SEQ-02"}],
    )
    split, _ = convert(studio, root=studio.root / "annotations/val_half.json")
    assert (split.num_videos, split.num_frames, split.problems) == (1, 3, [])
    ((_, frames),) = studio.shown().items()
    assert [(classes, tracks) for _, classes, tracks in frames] == [([1], [0])] * 3


def test_frames_in_both_splits_are_a_problem(studio: Studio) -> None:
    for name, numbers in {"train": range(4), "val_half": range(2, 4)}.items():
        export(studio, "a/{:04}.png", place=f"{name}.json", numbers=numbers)
    _, val = studio.prepare("auto", output=studio.out)
    (problem,) = val.problems
    assert "val_half.json: 2 of 2 frames are in train.json, too" in problem
    assert problem.endswith("set/a/0002.png and others")
    with pytest.raises(DataError, match="2 of 2 frames"):
        studio.prepare("auto", output=studio.out, strict=True)


def test_frames_of_a_video_file_in_both_splits(studio: Studio) -> None:
    studio.video("clip.mp4", 6)
    videos = [{"id": 1, "name": "clip", "file_name": "clip.mp4"}]
    for name, numbers in {"train": range(3), "val": range(2, 5)}.items():
        fields: Fields = lambda n: {"video_id": 1, "frame_id": n}  # noqa: E731
        place = f"{name}.json"
        export(studio, "x{}.png", place=place, numbers=numbers, image=fields, videos=videos)
    _, val = studio.prepare("auto", output=studio.out)
    (problem,) = val.problems
    assert problem.endswith("set/clip.mp4 frame 2 and others")


def test_sections_in_any_order_and_a_pipe_beside_them(studio: Studio) -> None:
    """A large section can keep `images` out of the start and the end of the file."""
    import os

    more = [{"id": n, "name": f"{n:09}" * 9} for n in range(2, 999)]
    masks = [[0.25] * 30000]
    export(
        studio, "a/{:04}.png", box=lambda n: {"segmentation": masks},
        categories=[{"id": 1, "name": "dog"}, *more],
    )  # fmt: skip
    value = json.loads((studio.root / "mine.json").read_text())
    studio.write("mine.json", json.dumps(value, sort_keys=True))
    os.mkfifo(studio.root / "pipe.json")
    split, _ = convert(studio)
    assert split.num_boxes == 4


@pytest.mark.parametrize(
    ("names", "files", "note"),
    [
        ("caf\u00e9_{:02}.png", "cafe\u0301_{:02}.png", "decomposed Unicode form"),
        ("cafe\u0301_{:02}.png", "caf\u00e9_{:02}.png", "composed Unicode form"),
        ("my%20clip%20%281%29_{:02}.png", "my clip (1)_{:02}.png", "with %20"),
    ],
)
def test_names_that_other_systems_spell_differently(
    studio: Studio, names: str, files: str, note: str
) -> None:
    export(studio, names, files=files)
    split, messages = convert(studio)
    assert (split.num_boxes, split.problems) == (4, [])
    assert any(note in message for message in messages)
    studio.shown()


def test_encoded_names_do_not_lead_out_of_the_set(studio: Studio) -> None:
    export(studio, "%2e%2e/out/{:02}.png", files="../out/{:02}.png")
    with pytest.raises(DataError, match="in none of"):
        convert(studio)


def test_a_class_without_boxes_that_repeats_a_name_is_left_out(studio: Studio) -> None:
    classes = [{"id": 0, "name": "dog", "supercategory": "none"}, {"id": 1, "name": "dog"}]
    export(studio, "a/{:02}.png", categories=classes)  # as Roboflow writes them
    split, messages = convert(studio)
    assert split.boxes_per_class == {"dog": 4}
    assert any("class 0 is left out: it has no boxes" in message for message in messages)
    export(studio, "a/{:02}.png", categories=classes, box=lambda n: {"category_id": n % 2})
    with pytest.raises(DataError, match="classes 0 and 1 are both 'dog'"):
        convert(studio)


def test_repeated_boxes_are_left_out(studio: Studio) -> None:
    export(studio, "a/{:02}.png", box=lambda n: {"image_id": n - n % 2, "bbox": [1, 2, 30, 40]})
    split, _ = convert(studio)
    assert (split.num_boxes, split.left_out) == (2, {"boxes that repeat another one": 2})


def test_tracks_may_have_names(studio: Studio) -> None:
    names = {0: "car_1", 1: "car_1", 2: "3.0", 3: "none"}
    export(studio, "a/{:02}.png", box=lambda n: {"track_id": names[n]})
    split, _ = convert(studio)
    assert split.problems == []
    tracks = [tracks for _, _, tracks in studio.shown()["a"]]
    assert tracks == [[0], [0], [1], [-1]]
