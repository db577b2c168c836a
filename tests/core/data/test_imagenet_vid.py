"""ImageNet VID's layout to COCO-VID JSON: the real sample, a small tree, and broken ones."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import cv2
import numpy as np
import pytest

from sparsevod_core.data.formats.imagenet_classes import IMAGENET_VID_CLASSES, read_classes
from sparsevod_core.data.formats.imagenet_layout import list_videos, spread_targets
from sparsevod_core.data.formats.imagenet_vid import prepare_imagenet_vid
from sparsevod_core.data.records import VideoSet
from sparsevod_core.errors import ConfigError, DataError

WIDTH, HEIGHT = 64, 48
JPEG = bytes(cv2.imencode(".jpg", np.full((HEIGHT, WIDTH, 3), 90, np.uint8))[1])
CAR, DOG = "n02958343", "n02084071"

Box = tuple[str, int, tuple[float, float, float, float]]
"""wnid, track, xmin ymin xmax ymax."""


@dataclass(frozen=True)
class Tree:
    """An ImageNet VID of our own making."""

    root: Path

    def frame(self, path: str, boxes: Sequence[Box] = (), *, jpeg: bytes = JPEG) -> None:
        """Add a frame, e.g. `VID/val/a/000000`."""
        objects = "".join(
            f"<object>\n<trackid>{track}</trackid><name>{name}</name><bndbox><xmin>{left}</xmin>"
            f"<ymin>{top}</ymin><xmax>{right}</xmax><ymax>{bottom}</ymax></bndbox>"
            "<occluded>0</occluded><generated>1</generated></object>\n"
            for name, track, (left, top, right, bottom) in boxes
        )
        size = f"<size><width>{WIDTH}</width><height>{HEIGHT}</height></size>"
        self.write(f"Annotations/{path}.xml", f"<annotation>\n{size}\n{objects}</annotation>\n")
        self.write(f"Data/{path}.JPEG", jpeg)

    def video(self, path: str, num_frames: int) -> None:
        """A car drives to the right; the last frame is empty."""
        for index in range(num_frames):
            boxes = [(CAR, 5, (index, 10, index + 20, 30))] if index < num_frames - 1 else []
            self.frame(f"{path}/{index:06d}", boxes)

    def write(self, path: str, content: str | bytes) -> None:
        target = self.root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content.encode() if isinstance(content, str) else content)


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    """Two training videos, a still of DET, two validation videos; no lists."""
    tree = Tree(tmp_path / "ILSVRC2015")
    tree.video("VID/train/ILSVRC2015_VID_train_0000/ILSVRC2015_train_00000000", 40)
    tree.video("VID/train/ILSVRC2015_VID_train_0001/ILSVRC2015_train_00000000", 6)
    tree.frame(
        "DET/train/ILSVRC2013_train/a_1", [(DOG, 0, (1, 2, 30, 40)), ("n07739125", 0, (1, 1, 9, 9))]
    )
    tree.frame("DET/train/ILSVRC2013_train/a_2", [("n07739125", 0, (1, 1, 9, 9))])
    tree.video("VID/val/ILSVRC2015_val_00000000", 4)
    tree.video("VID/val/ILSVRC2015_val_00000001", 3)
    return tree


def convert(tree: Tree, output: Path, **options: Any) -> dict[str, Any]:
    """The JSON of `val`."""
    prepare_imagenet_vid(tree.root, output, splits=["val"], **options)
    return dict(json.loads((output / "val.json").read_text()))


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
    same = sum(spread_targets(lengths[name]) == numbers for name, numbers in chosen.items())
    assert (same, len(chosen)) == (3457, 3862)  # the rule agrees with nine lists in ten


def test_classes_are_the_official_ones(shared_dir: Path, tmp_path: Path) -> None:
    official = (shared_dir / "data" / "ilsvrc" / "map_vid.txt").read_text()
    assert [f"{c.wnid} {c.id} {c.name}" for c in read_classes(tmp_path)] == official.split("\n")[
        :30
    ]


def test_train_lists_every_frame_and_marks_the_targets(tree: Tree, tmp_path: Path) -> None:
    train, val = prepare_imagenet_vid(tree.root, tmp_path / "out")
    assert (train.num_videos, train.num_frames, train.num_stills) == (2, 46, 1)
    assert (train.num_targets, train.num_empty, train.num_other_boxes) == (15 + 6 + 1, 2, 2)
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


def test_a_box_travels_whole(tree: Tree, tmp_path: Path) -> None:
    content = convert(tree, tmp_path)
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
        # 20 of 22 columns shared with the box before, and the one after
        "motion_iou": pytest.approx(20 / 22, abs=1e-6),
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
def test_lists_are_found_and_fit_either_year(tree: Tree, tmp_path: Path, folder: str) -> None:
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
    content = convert(tree, tmp_path)
    assert [(c["id"], c["name"]) for c in content["categories"]] == [(40, "motor car"), (2, "b")]
    assert {a["category_id"] for a in content["annotations"]} == {40}
    for text, words in (
        ("n1 1", ":1: expected `wnid"),
        ("n1 1 a\nn2 1 b", ":2: .* twice"),
        ("", "no classes"),
    ):
        tree.write("devkit/data/map_vid.txt", text)
        with pytest.raises(DataError, match=words):
            convert(tree, tmp_path)


VAL = "VID/val/ILSVRC2015_val_00000000"


def break_tree(tree: Tree, what: str) -> None:
    frame, xml = f"{VAL}/000002", f"Annotations/{VAL}/000002.xml"
    text = (tree.root / xml).read_text()
    if what == "truncated":
        tree.write(xml, text[:-30])
    elif what == "entity":
        tree.write(xml, '<!DOCTYPE a [<!ENTITY b "c">]>' + text)
    elif what == "inverted":
        tree.frame(frame, [(CAR, 0, (30, 10, 20, 30))])
    elif what == "outside":
        tree.frame(frame, [(CAR, 0, (64, 10, 80, 30))])
    elif what == "leaving":
        tree.frame(frame, [(CAR, 0, (-4, 10, 80, 30))])
    elif what == "class":
        tree.frame(frame, [("n00000000", 0, (1, 10, 20, 30))])
    elif what == "no jpeg":
        (tree.root / f"Data/{frame}.JPEG").unlink()
    elif what == "no xml":
        (tree.root / xml).unlink()
    elif what == "size":
        tree.frame(frame, jpeg=bytes(cv2.imencode(".jpg", np.zeros((9, 8, 3), np.uint8))[1]))
    elif what == "not a jpeg":
        tree.frame(frame, jpeg=b"GIF89a")
    elif what == "same frame":
        tree.frame(f"{VAL}/2")
    elif what == "same jpeg":
        tree.write(f"Data/{frame}.jpg", JPEG)
    elif what == "name":
        tree.frame(f"{VAL}/cover")


BROKEN = {
    # what: (where, why, frames left of 4, boxes left of 3)
    "truncated": (rf"Annotations/{VAL}/000002\.xml:\d+", "broken XML: ", 3, 2),
    "entity": (rf"Annotations/{VAL}/000002\.xml:1", "refused", 3, 2),
    "inverted": (rf"Annotations/{VAL}/000002\.xml:3", r"box \(30, 10, 20, 30\) is empty", 4, 2),
    "outside": (rf"Annotations/{VAL}/000002\.xml:3", "outside the 64x48 frame", 4, 2),
    "leaving": (rf"Annotations/{VAL}/000002\.xml:3", "leaves the 64x48 frame, clipped", 4, 3),
    "class": (rf"Annotations/{VAL}/000002\.xml:3", "unknown class 'n00000000'", 4, 2),
    "no jpeg": (rf"Data/{VAL}/000002\.JPEG", "missing, though", 3, 2),
    "no xml": (rf"Annotations/{VAL}/000002\.xml", "missing, though", 3, 2),
    "size": (rf"Data/{VAL}/000002\.JPEG", r"8x9 pixels, but .*\.xml says 64x48", 3, 2),
    "not a jpeg": (rf"Data/{VAL}/000002\.JPEG", "not a JPEG", 3, 2),
    "same frame": (f"{VAL}/2", "same frame as 000002", 4, 3),
    "same jpeg": (rf"Data/{VAL}/000002\.jpg", r"same frame as 000002\.JPEG", 4, 3),
    "name": (f"{VAL}/cover", "must be a number", 4, 3),
}


@pytest.mark.parametrize("what", BROKEN)
def test_broken_input_is_named_and_left_out_or_stops(tree: Tree, tmp_path: Path, what: str) -> None:
    where, why, num_frames, num_boxes = BROKEN[what]
    break_tree(tree, what)
    (val,) = prepare_imagenet_vid(tree.root, tmp_path / "out", splits=["val"])
    (problem,) = val.problems
    assert "\n" not in problem
    with pytest.raises(DataError, match=f"{where}: .*{why}") as error:
        prepare_imagenet_vid(tree.root, tmp_path / "strict", splits=["val"], strict=True)
    assert error.value.message == problem and error.value.hint
    assert not list((tmp_path / "strict").iterdir())  # neither the file nor a part of it
    content = json.loads((tmp_path / "out" / "val.json").read_text())
    video = [image["id"] for image in content["images"] if image["video_id"] == 1]
    assert len(video) == num_frames
    assert sum(a["image_id"] in video for a in content["annotations"]) == num_boxes


def test_a_clipped_box_lies_in_the_frame(tree: Tree, tmp_path: Path) -> None:
    break_tree(tree, "leaving")
    assert convert(tree, tmp_path)["annotations"][2]["bbox"] == [0, 10, 64, 20]


@pytest.mark.parametrize("name", ["../../../secret", "/etc", "val/../../x", ".."])
def test_a_list_cannot_leave_the_tree(tree: Tree, tmp_path: Path, name: str) -> None:
    tree.write("ImageSets/VID_val_videos.txt", f"val/ILSVRC2015_val_00000000 1 0 4\n{name} 5 0 4\n")
    with pytest.raises(DataError, match=r"VID_val_videos\.txt:2: .* leaves the data set"):
        convert(tree, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("line", ["val/a", "val/a 1 0 four", "val/a 1 0 -4", "a b c d e"])
def test_a_list_that_cannot_be_read_names_the_line(tree: Tree, tmp_path: Path, line: str) -> None:
    tree.write("ImageSets/VID_val_videos.txt", f"\n{line}\n")
    with pytest.raises(DataError, match=r"VID_val_videos\.txt:2: expected"):
        convert(tree, tmp_path)


def test_missing_frames_of_a_listed_video_are_counted(tree: Tree, tmp_path: Path) -> None:
    tree.write("ImageSets/VID_val_videos.txt", "val/ILSVRC2015_val_00000000 1 0 9\n")
    (val,) = prepare_imagenet_vid(tree.root, tmp_path)[1:]
    assert val.problems == [f"{tree.root / 'Data' / VAL}: 4 frames read, 9 listed"]
    with pytest.raises(DataError, match="4 frames read, 9 listed"):
        prepare_imagenet_vid(tree.root, tmp_path, splits=["val"], strict=True)


def test_nothing_usable_is_an_error_and_keeps_the_old_file(tree: Tree, tmp_path: Path) -> None:
    before = convert(tree, tmp_path)
    shutil.rmtree(tree.root / "Annotations")
    with pytest.raises(
        DataError, match=r"no usable frame in the split val: .* no annotations here"
    ):
        convert(tree, tmp_path)
    assert json.loads((tmp_path / "val.json").read_text()) == before
    assert [path.name for path in tmp_path.glob("val*")] == ["val.json"]


def test_what_cannot_be_written_is_one_line(tree: Tree, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="file"):
        convert(tree, tmp_path / "file")


def test_degradations_beside_the_tree_travel_along(tree: Tree, tmp_path: Path) -> None:
    assert "degradation" not in convert(tree, tmp_path)["images"][0]
    name = f"Data/{VAL}/000001.JPEG"
    tree.write("degradations.json", json.dumps({"frames": {name: {"noise": 0.5}}}))
    found = [image["degradation"] for image in convert(tree, tmp_path)["images"][:3]]
    assert found == [{}, {"noise": 0.5}, {}]
    tree.write("degradations.json", '{"frames": [1]}')
    with pytest.raises(DataError, match=r"degradations\.json: expected severities"):
        convert(tree, tmp_path)
