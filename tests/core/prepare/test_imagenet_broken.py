"""Broken and hostile ImageNet trees: each fault is one line, and is skipped or stops."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from imagenet_tree import CAR, JPEG, VAL, Tree, convert_val, small_tree

from sparsevod_core.errors import DataError
from sparsevod_core.prepare.imagenet_vid.convert import prepare_imagenet_vid


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return small_tree(tmp_path)


def break_tree(tree: Tree, what: str, video: str = VAL) -> None:
    frame, xml = f"{video}/000002", f"Annotations/{video}/000002.xml"
    jpeg, text = f"Data/{video}/000002.JPEG", (tree.root / xml).read_text()
    small = bytes(cv2.imencode(".jpg", np.zeros((9, 8, 3), np.uint8))[1])
    boxes = {
        "inverted": (CAR, 0, (30, 10, 20, 30)),
        "outside": (CAR, 0, (64, 10, 80, 30)),
        "leaving": (CAR, 0, (-4, 10, 80, 30)),
        "class": ("n00000000", 0, (1, 10, 20, 30)),
    }
    files: dict[str, tuple[str, str | bytes]] = {
        "truncated": (xml, text[:-30]),
        "entity": (xml, '<!DOCTYPE a [<!ENTITY b "c">]>' + text),
        # So small that all boxes are outside, which is not what must be reported.
        "size in xml": (xml, text.replace("<width>64<", "<width>1<")),
        "huge": (xml, text + "<!-- -->" * (1 << 20)),
        "size": (jpeg, small),
        "not a jpeg": (jpeg, b"GIF89a"),
        "same jpeg": (f"Data/{frame}.jpg", JPEG),
    }
    if what in boxes:
        tree.frame(frame, [boxes[what]])
    elif what in files:
        tree.write(*files[what])
    elif what in ("same frame", "name"):
        tree.frame(f"{video}/2" if what == "same frame" else f"{video}/cover")
    else:
        path = tree.root / (xml if what.endswith("xml") else jpeg)
        path.unlink()
        if what.startswith("folder"):
            path.mkdir()
        elif what == "pipe":
            os.mkfifo(path)
        elif what == "dangling link":
            path.symlink_to("nowhere")


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
    "size in xml": (rf"Data/{VAL}/000002\.JPEG", r"64x48 pixels, but .*\.xml says 1x48", 3, 2),
    "not a jpeg": (rf"Data/{VAL}/000002\.JPEG", "not a JPEG", 3, 2),
    "same frame": (f"{VAL}/2", "same frame as 000002", 4, 3),
    "same jpeg": (rf"Data/{VAL}/000002\.jpg", r"same frame as 000002\.JPEG", 4, 3),
    "name": (f"{VAL}/cover", "must be a number", 4, 3),
    "huge": (rf"Annotations/{VAL}/000002\.xml", "larger than 4 MiB", 3, 2),
    "folder for xml": (rf"Annotations/{VAL}/000002\.xml", "cannot read .*: Is a directory", 3, 2),
    "folder for jpeg": (rf"Data/{VAL}/000002\.JPEG", "cannot read .*: Is a directory", 3, 2),
    "pipe": (rf"Data/{VAL}/000002\.JPEG", "", 3, 2),
    "dangling link": (rf"Data/{VAL}/000002\.JPEG", "cannot read .*: No such file", 3, 2),
}


@pytest.mark.parametrize("what", BROKEN)
def test_broken_input_is_named_and_skipped_or_stops(tree: Tree, tmp_path: Path, what: str) -> None:
    where, why, num_frames, num_boxes = BROKEN[what]
    break_tree(tree, what)
    (val,) = prepare_imagenet_vid(tree.root, tmp_path / "out", splits=["val"])
    (problem,) = val.problems
    assert "\n" not in problem
    with pytest.raises(DataError, match=f"{where}: .*{why}") as error:
        prepare_imagenet_vid(tree.root, tmp_path / "strict", splits=["val"], strict=True)
    assert error.value.message == problem and error.value.hint
    assert not list((tmp_path / "strict").glob("*"))  # neither the file nor a partial one
    content = json.loads((tmp_path / "out" / "val.json").read_text())
    video = [image["id"] for image in content["images"] if image["video_id"] == 1]
    assert len(video) == num_frames
    assert sum(a["image_id"] in video for a in content["annotations"]) == num_boxes


def test_a_clipped_box_lies_in_the_frame(tree: Tree, tmp_path: Path) -> None:
    break_tree(tree, "leaving")
    assert convert_val(tree, tmp_path)["annotations"][2]["bbox"] == [0, 10, 64, 20]


@pytest.mark.parametrize("name", ["../../../secret", "/etc", "val/../../x", ".."])
def test_a_list_cannot_leave_the_tree(tree: Tree, tmp_path: Path, name: str) -> None:
    tree.write("ImageSets/VID_val_videos.txt", f"val/ILSVRC2015_val_00000000 1 0 4\n{name} 5 0 4\n")
    with pytest.raises(DataError, match=r"VID_val_videos\.txt:2: .* leaves the data set"):
        convert_val(tree, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "line", ["val/a", "val/a 1 0 four", "val/a 1 0 -4", f"val/a 1 0 {'9' * 5000}", "a b c d e"]
)
def test_a_list_that_cannot_be_read_names_the_line(tree: Tree, tmp_path: Path, line: str) -> None:
    tree.write("ImageSets/VID_val_videos.txt", f"\n{line}\n")
    with pytest.raises(DataError, match=r"VID_val_videos\.txt:2: expected"):
        convert_val(tree, tmp_path)


def test_missing_frames_of_a_listed_video_are_counted(tree: Tree, tmp_path: Path) -> None:
    tree.write("ImageSets/VID_val_videos.txt", "val/ILSVRC2015_val_00000000 1 0 9\n")
    (val,) = prepare_imagenet_vid(tree.root, tmp_path)[1:]
    assert val.problems == [f"{tree.root / 'Data' / VAL}: 4 frames read, 9 listed"]
    with pytest.raises(DataError, match="4 frames read, 9 listed"):
        prepare_imagenet_vid(tree.root, tmp_path, splits=["val"], strict=True)


def test_all_faults_are_written_to_the_problems_file(tree: Tree, tmp_path: Path) -> None:
    for number, what in enumerate(BROKEN):
        name = f"VID/val/ILSVRC2015_val_{number:08d}"
        tree.video(name, 4)
        break_tree(tree, what, name)
    (val,) = prepare_imagenet_vid(tree.root, tmp_path / "v.json", splits=["val"], workers=2)
    assert len(val.problems) == len(BROKEN)
    for (where, why, _, _), problem in zip(BROKEN.values(), val.problems, strict=True):
        where = where.replace(VAL, r"VID/val/ILSVRC2015_val_\d+")
        assert re.search(f"{where}: .*{why}", problem)
    assert val.problems_file == tmp_path / "v.problems.txt"
    assert val.problems_file.read_text().splitlines() == val.problems


def test_the_list_of_problems_is_removed_with_them(tree: Tree, tmp_path: Path) -> None:
    break_tree(tree, "class")
    convert_val(tree, tmp_path)
    assert (tmp_path / "val.problems.txt").is_file()
    tree.video(VAL, 4)
    convert_val(tree, tmp_path)
    assert not (tmp_path / "val.problems.txt").exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_unreadable_files_are_named(tree: Tree, tmp_path: Path) -> None:
    (tree.root / f"Annotations/{VAL}/000001.xml").chmod(0)
    (tree.root / f"Data/{VAL}/000002.JPEG").chmod(0)
    (val,) = prepare_imagenet_vid(tree.root, tmp_path, splits=["val"])
    assert len(val.problems) == 2
    assert all(problem.endswith(": Permission denied") for problem in val.problems)


@pytest.mark.parametrize("part", ["Data", "Annotations"])
def test_an_unreadable_folder_is_named(
    tree: Tree, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part: str
) -> None:
    closed, scandir, listdir = str(tree.root / part / VAL), os.scandir, os.listdir

    def refuse(path: Any, look: Any) -> Any:
        if str(path) == closed:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return look(path)

    monkeypatch.setattr(os, "scandir", lambda path: refuse(path, scandir))
    monkeypatch.setattr(os, "listdir", lambda path: refuse(path, listdir))
    (val,) = prepare_imagenet_vid(tree.root, tmp_path, splits=["val"])
    assert val.num_videos == 1
    assert val.problems[0] == f"{closed}: cannot read the folder: Permission denied"


def test_a_video_without_frames_or_annotations_is_named_once(tree: Tree, tmp_path: Path) -> None:
    shutil.rmtree(tree.root / "Annotations" / VAL)
    (val,) = prepare_imagenet_vid(tree.root, tmp_path, splits=["val"])
    assert val.problems == [f"{tree.root}/Annotations/{VAL}: no annotations here"]


def test_frames_outside_a_video_folder_are_named(tree: Tree, tmp_path: Path) -> None:
    tree.frame("VID/val/000000")
    with pytest.raises(DataError, match=r"no usable frame .*Data/VID/val: frames lie here"):
        convert_val(tree, tmp_path)


def test_repeated_list_entries_are_named_and_used_once(tree: Tree, tmp_path: Path) -> None:
    name = "train/ILSVRC2015_VID_train_0000/ILSVRC2015_train_00000000"
    lines = [f"{name} 1 3 40", f"{name} 1 9 40", f"{name} 1 3 40", f"{name} 1 4 41"]
    snippets = tree.write("ImageSets/VID_train_15frames.txt", "\n".join(lines))
    twice = "train/ILSVRC2013_train/a_1 1\n" * 2
    stills = tree.write("ImageSets/DET_train_30classes.txt", twice)
    (train,) = prepare_imagenet_vid(tree.root, tmp_path, splits=["train"])
    assert train.problems == [
        f"{snippets}:3: frame 3 of {name} is listed twice",
        f"{snippets}:4: {name} has 41 frames, but 40 before",
        f"{stills}:2: train/ILSVRC2013_train/a_1 is listed twice",
    ]
    assert (train.num_stills, train.expected_stills, train.num_targets) == (1, 1, 4)
    with pytest.raises(DataError, match=r"15frames\.txt:3: frame 3 .* is listed twice"):
        prepare_imagenet_vid(tree.root, tmp_path, splits=["train"], strict=True)


def test_a_listed_target_that_is_not_there_is_named(tree: Tree, tmp_path: Path) -> None:
    name = "ILSVRC2015_VID_train_0000/ILSVRC2015_train_00000000"
    tree.write("ImageSets/VID_train_15frames.txt", f"train/{name} 1 40 40\n")
    (train,) = prepare_imagenet_vid(tree.root, tmp_path, splits=["train"], include_det=False)
    data = tree.root / "Data" / "VID" / "train" / name
    assert train.problems == [f"{data}: frame 40 is listed as a target, but missing"]


def test_the_same_video_of_both_years_is_used_once(tree: Tree, tmp_path: Path) -> None:
    tree.video("VID/val/ILSVRC2017_val_00000000", 4)
    (val,) = prepare_imagenet_vid(tree.root, tmp_path, splits=["val"])
    assert val.num_videos == 2
    (problem,) = val.problems
    assert problem.endswith(
        "ILSVRC2017_val_00000000: the same video as val/ILSVRC2015_val_00000000, skipped"
    )


@pytest.mark.parametrize("line", ["a_1 1", "train/a_1 1", "train/ILSVRC2013_train/../a 1"])
def test_stills_listed_without_a_folder(tree: Tree, tmp_path: Path, line: str) -> None:
    place = tree.write("ImageSets/DET_train_30classes.txt", line)
    if ".." in line:
        with pytest.raises(DataError, match=rf"{place}:1: .* leaves the data set"):
            prepare_imagenet_vid(tree.root, tmp_path, splits=["train"])
        return
    (train,) = prepare_imagenet_vid(tree.root, tmp_path, splits=["train"])
    assert (train.num_stills, len(train.problems)) == (0, 1)
