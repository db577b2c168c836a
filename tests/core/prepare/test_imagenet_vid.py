"""Conversion of ImageNet VID: the real sample and lists, and a small tree."""

from __future__ import annotations

import csv
import gzip
import json
import shutil
from pathlib import Path
from xml.etree import ElementTree

import pytest
from imagenet_tree import CAR, VAL, Tree, convert_val, small_tree

from sparsevod_core.class_lists.imagenet_vid import IMAGENET_VID_CLASSES, read_classes
from sparsevod_core.data.records import VideoSet
from sparsevod_core.errors import ConfigError, DataError
from sparsevod_core.prepare.imagenet_vid.convert import prepare_imagenet_vid
from sparsevod_core.prepare.imagenet_vid.layout import list_videos, spread_targets


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return small_tree(tmp_path)


def test_the_real_sample(shared_dir: Path, tmp_path: Path) -> None:
    root = shared_dir / "data" / "ilsvrc" / "ILSVRC2015"
    (result,) = prepare_imagenet_vid(root, tmp_path)
    assert (result.num_videos, result.expected_videos, len(result.missing)) == (1, 555, 554)
    assert (result.num_frames, result.expected_frames) == (144, 176_126)
    assert result.problems == [] and result.num_empty == 0
    video = "VID/val/ILSVRC2015_val_00007010"
    videos = VideoSet.load(tmp_path / "val.json")
    assert [c.name for c in videos.categories] == [c.name for c in IMAGENET_VID_CLASSES]
    assert videos.num_frames == 144 and videos.video_name(0) == "ILSVRC2015_val_00007010"
    for frame in range(144):
        tags = ElementTree.parse(root / "Annotations" / video / f"{frame:06d}.xml").getroot()
        expected = [
            [int(tag.findtext(f"bndbox/{side}", "")) for side in ("xmin", "ymin", "xmax", "ymax")]
            for tag in tags.iter("object")
        ]
        boxes = videos.boxes(frame)
        assert boxes.boxes_xyxy.tolist() == expected
        assert {tag.findtext("name") for tag in tags.iter("object")} == {"n02691156"}
        assert set(boxes.labels) == {0}
        path, _ = videos.frame_path(frame)
        assert path.samefile(root / "Data" / video / f"{frame:06d}.JPEG")
        assert videos.frame_size(frame) == (720, 1280)


def test_the_real_lists_name_what_is_missing(shared_dir: Path) -> None:
    root = shared_dir / "data" / "ilsvrc" / "ILSVRC2015"
    listing = list_videos(root, "train")
    assert (len(listing.missing), listing.listed_frames) == (3862, 1_122_397)
    chosen: dict[str, list[int]] = {}
    lengths: dict[str, int] = {}
    for line in (root / "ImageSets" / "VID_train_15frames.txt").read_text().splitlines():
        name, _, number, length = line.split()
        chosen.setdefault(name, []).append(int(number))
        lengths[name] = int(length)
    rule = {name: spread_targets(lengths[name]) for name in chosen}
    assert sum(rule[name] == numbers for name, numbers in chosen.items()) == 3457  # of 3862
    assert sum(map(len, rule.values())) == sum(map(len, chosen.values())) == 57_834
    # The others differ only by rounding: if (i + 1/2) L / 15 is an integer, the list may have the
    # frame before. Lengths and order are always equal.
    for name, numbers in chosen.items():
        for i, (ours, theirs) in enumerate(zip(rule[name], numbers, strict=True)):
            is_whole = (2 * i + 1) * lengths[name] % 30 == 0
            assert ours == theirs or (ours == theirs + 1 and is_whole)


def test_classes_are_the_official_ones(shared_dir: Path, tmp_path: Path) -> None:
    official = (shared_dir / "data" / "ilsvrc" / "map_vid.txt").read_text()
    assert [f"{c.wnid} {c.id} {c.name}" for c in read_classes(tmp_path)] == official.split("\n")[
        :30
    ]


def test_train_lists_every_frame_and_marks_the_targets(tree: Tree, tmp_path: Path) -> None:
    train, val = prepare_imagenet_vid(tree.root, tmp_path / "out")
    assert (train.num_videos, train.num_frames, train.num_stills) == (2, 46, 1)
    assert (train.num_targets, train.num_empty) == (15 + 6 + 1, 2)
    assert train.left_out == {"boxes of other classes": 2}
    assert (val.num_videos, val.num_frames, val.num_targets, val.num_boxes) == (2, 7, 7, 5)
    assert train.boxes_per_class["car"] == 44 and train.boxes_per_class["dog"] == 1
    assert not train.problems and not val.problems
    content = json.loads((tmp_path / "out" / "train.json").read_text())
    first = [image for image in content["images"] if image.get("video_id") == 1]
    assert [image["frame_id"] for image in first] == list(range(40))
    targets = [image["frame_id"] for image in first if image["is_vid_train_frame"]]
    assert targets == [1, 4, 6, 9, 12, 14, 17, 20, 22, 25, 28, 30, 33, 36, 38]
    (still,) = (image for image in content["images"] if "video_id" not in image)
    assert still["file_name"] == "Data/DET/train/ILSVRC2013_train/a_1.JPEG"
    assert still["is_vid_train_frame"]
    assert VideoSet.load(tmp_path / "out" / "train.json").num_videos == 3  # a still is one frame
    assert [video["name"] for video in content["videos"]] == [
        "ILSVRC2015_VID_train_0000/ILSVRC2015_train_00000000",
        "ILSVRC2015_VID_train_0001/ILSVRC2015_train_00000000",
    ]


def test_all_fields_of_a_box_are_written(tree: Tree, tmp_path: Path) -> None:
    content = convert_val(tree, tmp_path)
    first = content["annotations"][1]
    assert first == {
        "id": 2,
        "image_id": 2,
        "video_id": 1,
        "instance_id": 1,
        "category_id": 7,
        "bbox": [1, 10, 20, 20],
        "area": 400,
        "iscrowd": 0,
        "occluded": False,
        "generated": True,
        # 20 of 22 columns shared with the box before and the one after; not rounded
        "motion_iou": (20 * 21) / (22 * 21),
    }
    # The same track id in the next video is another object.
    assert [a["instance_id"] for a in content["annotations"]] == [1, 1, 1, 2, 2]
    assert content["categories"][6] == {"id": 7, "name": "car", "wnid": CAR}
    assert content["info"]["tool"].startswith("sparsevod ")
    assert (tmp_path / content["info"]["root"]).samefile(tree.root)


def test_the_listed_frames_are_the_targets(tree: Tree, tmp_path: Path) -> None:
    name = "train/ILSVRC2015_VID_train_0000/ILSVRC2015_train_00000000"
    gone = "train/ILSVRC2015_VID_train_0000/ILSVRC2015_train_00000009"
    lines = [f"{name} 1 {number} 40" for number in (3, 7, 39)] + [f"{gone} 1 2 30"]
    tree.write("ImageSets/VID/VID_train_15frames.txt", "\n".join(lines))
    stills = "train/ILSVRC2013_train/a_2 1\ntrain/ILSVRC2013_train/a_3 1"
    tree.write("ImageSets/DET_train_30classes.txt", stills)
    train, _ = prepare_imagenet_vid(tree.root, tmp_path)
    assert (train.num_videos, train.expected_videos) == (1, 2)
    assert (train.num_frames, train.expected_frames) == (40, 70)
    assert (train.num_stills, train.expected_stills) == (1, 2)
    assert train.missing == [gone] and len(train.unlisted) == 1
    assert [problem.split(": ")[1][:7] for problem in train.problems] == ["missing"]
    content = json.loads((tmp_path / "train.json").read_text())
    marked = [
        i["frame_id"] for i in content["images"] if i["is_vid_train_frame"] and "video_id" in i
    ]
    assert marked == [3, 7, 39]


@pytest.mark.parametrize("folder", ["ImageSets", "ImageSets/VID", "Lists"])
def test_lists_are_found_and_match_either_year(tree: Tree, tmp_path: Path, folder: str) -> None:
    tree.write(f"{folder}/VID_val_videos.txt", "val/ILSVRC2017_val_00000001 465 0 3\n")
    (val,) = prepare_imagenet_vid(tree.root, tmp_path, splits=["val"])
    assert (val.num_videos, val.num_frames, val.missing) == (1, 3, [])
    assert val.unlisted == ["val/ILSVRC2015_val_00000000"]


def test_parts_of_the_data_set(tree: Tree, tmp_path: Path) -> None:
    shutil.rmtree(tree.root / "Data/VID/train")
    (val,) = prepare_imagenet_vid(tree.root.parent, tmp_path / "one.json")  # the folder above
    assert (val.split, val.file) == ("val", tmp_path / "one.json")
    with pytest.raises(DataError, match="no train to convert"):
        prepare_imagenet_vid(tree.root, tmp_path, splits=["train"])
    with pytest.raises(ConfigError, match="unknown split 'test'"):
        prepare_imagenet_vid(tree.root, tmp_path, splits=["test"])
    with pytest.raises(DataError, match="no ImageNet VID here"):
        prepare_imagenet_vid(tree.root / "Data", tmp_path / "out")


def test_no_det_dry_run_and_one_file_for_two_splits(tree: Tree, tmp_path: Path) -> None:
    train, _ = prepare_imagenet_vid(tree.root, tmp_path / "o", include_det=False, dry_run=True)
    assert (train.num_stills, train.file) == (0, None)
    assert not (tmp_path / "o").exists()
    with pytest.raises(ConfigError, match="one file for two splits"):
        prepare_imagenet_vid(tree.root, tmp_path / "both.json")


def test_own_classes(tree: Tree, tmp_path: Path) -> None:
    tree.write("devkit/data/map_vid.txt", f"{CAR} 40 motor car\n\nn1 2 b\n")
    content = convert_val(tree, tmp_path)
    assert [(c["id"], c["name"]) for c in content["categories"]] == [(40, "motor car"), (2, "b")]
    assert {a["category_id"] for a in content["annotations"]} == {40}
    for text, words in (
        ("n1 1", ":1: expected `wnid"),
        ("n1 1 a\nn2 1 b", ":2: .* twice"),
        ("", "no classes"),
    ):
        tree.write("devkit/data/map_vid.txt", text)
        with pytest.raises(DataError, match=words):
            convert_val(tree, tmp_path)


def test_nothing_usable_is_an_error_and_keeps_the_old_file(tree: Tree, tmp_path: Path) -> None:
    before = convert_val(tree, tmp_path)
    shutil.rmtree(tree.root / "Annotations")
    with pytest.raises(
        DataError, match=r"no usable frame in the split val: .* no annotations here"
    ):
        convert_val(tree, tmp_path)
    assert json.loads((tmp_path / "val.json").read_text()) == before
    assert [path.name for path in tmp_path.glob("val*")] == ["val.json"]


def test_what_cannot_be_written_is_one_line(tree: Tree, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="file"):
        convert_val(tree, tmp_path / "file")


def test_degradations_of_a_tree_are_written(tree: Tree, tmp_path: Path) -> None:
    assert "degradation" not in convert_val(tree, tmp_path)["images"][0]
    name = f"Data/{VAL}/000001.JPEG"
    tree.write("degradations.json", json.dumps({"frames": {name: {"noise": 0.5}}}))
    found = [image["degradation"] for image in convert_val(tree, tmp_path)["images"][:3]]
    assert found == [{}, {"noise": 0.5}, {}]


@pytest.mark.parametrize(
    "frames",
    [
        "[1]",
        "7",
        '{"a": [1]}',
        '{"a": {"noise": %s}}' % ("9" * 400),
        '{"a": {"noise": 1e999}}',
        '{"a": {"noise": NaN}}',
        '{"a": {"noise": "0.5"}}',
        "[" * 100_000,
    ],
    ids=range(8),
)
def test_invalid_degradations(frames: str, tree: Tree, tmp_path: Path) -> None:
    tree.write("degradations.json", f'{{"frames": {frames}}}')
    with pytest.raises(DataError, match=r"degradations\.json: expected severities"):
        convert_val(tree, tmp_path)


def test_what_is_expected_without_lists_is_what_imagenet_vid_holds(
    tree: Tree, tmp_path: Path
) -> None:
    train, val = prepare_imagenet_vid(tree.root, tmp_path)
    assert (train.expected_videos, train.expected_frames) == (3862, 1_122_397)
    assert train.expected_boxes is None and train.expected_empty is None
    assert train.expected_targets is None  # depends on the unknown number of still images
    (train,) = prepare_imagenet_vid(tree.root, tmp_path, splits=["train"], include_det=False)
    assert train.expected_targets == 57_834
    assert (val.expected_videos, val.expected_frames, val.expected_empty) == (555, 176_126, 4046)
    assert val.expected_boxes == 273_505
    assert val.expected_boxes_per_class is not None
    assert list(val.expected_boxes_per_class) == [c.name for c in IMAGENET_VID_CLASSES]


def test_a_set_of_ones_own_in_this_layout_is_not_compared_with_imagenet_vid(
    tree: Tree, tmp_path: Path
) -> None:
    tree.write("ImageSets/VID_val_videos.txt", "val/ILSVRC2015_val_00000001 1 0 3\n")
    (val,) = prepare_imagenet_vid(tree.root, tmp_path, splits=["val"])
    assert (val.expected_videos, val.expected_frames, val.expected_boxes) == (1, 3, None)
    tree.write("map_vid.txt", f"{CAR} 1 car\n")
    (train,) = prepare_imagenet_vid(tree.root, tmp_path, splits=["train"])
    assert (train.expected_videos, train.expected_targets) == (None, None)


def test_expected_boxes_are_those_of_the_official_ground_truth(
    shared_dir: Path, tree: Tree, tmp_path: Path
) -> None:
    counted = dict.fromkeys((c.name for c in IMAGENET_VID_CLASSES), 0)
    with gzip.open(shared_dir / "data" / "ilsvrc" / "vid_val_gt_all.csv.gz", "rt") as file:
        for row in csv.DictReader(file):
            counted[row["name"]] += 1
    (val,) = prepare_imagenet_vid(tree.root, tmp_path, splits=["val"])
    assert val.expected_boxes_per_class == counted


def test_links_are_followed_and_circles_are_not(tree: Tree, tmp_path: Path) -> None:
    plain = convert_val(tree, tmp_path)
    elsewhere = tmp_path / "disk"
    (tree.root / "Data" / VAL).rename(elsewhere)
    (tree.root / "Data" / VAL).symlink_to(elsewhere)
    circle = tree.root / "Data" / "VID" / "val" / "circle"
    circle.mkdir()
    (circle / "again").symlink_to(circle)
    linked = convert_val(tree, tmp_path)
    assert linked == plain


def test_workers_write_the_same_file(tree: Tree, tmp_path: Path) -> None:
    for number in range(30):
        tree.video(f"VID/val/ILSVRC2015_val_{number:08d}", 2 + number % 3)
    tree.frame(f"{VAL}/000009", [("n0", 0, (1, 1, 9, 9))])
    (one,) = prepare_imagenet_vid(tree.root, tmp_path / "1.json", splits=["val"])
    (three,) = prepare_imagenet_vid(tree.root, tmp_path / "3.json", splits=["val"], workers=3)
    assert (tmp_path / "1.json").read_bytes() == (tmp_path / "3.json").read_bytes()
    assert one.problems == three.problems and len(one.problems) == 1
    assert (one.num_boxes, one.num_frames) == (three.num_boxes, three.num_frames)


def test_stills_without_a_list_may_have_no_annotation(tree: Tree, tmp_path: Path) -> None:
    tree.write("Data/DET/train/ILSVRC2013_train/negative.JPEG", b"not an image")
    tree.write("Data/DET/train/ILSVRC2013_train_extra0/negative.JPEG", b"not an image")
    (train,) = prepare_imagenet_vid(tree.root, tmp_path, splits=["train"])
    assert (train.num_stills, train.problems) == (1, [])
