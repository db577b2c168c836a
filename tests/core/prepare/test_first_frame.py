"""Labels of video files count their frames from 0 or from 1: by evidence, and always said."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from own_sets import HEIGHT, WIDTH, Messages, Studio, box_of, fractions

from sparsevod_core.errors import DataError
from sparsevod_core.prepare.reading.label_set import Hints

N = 6
"""Number of frames of each video."""


@pytest.fixture
def studio(tmp_path: Path) -> Studio:
    return Studio(tmp_path)


def label(studio: Studio, name: str, numbers: list[int], first: int) -> None:
    """Write a video and labels that count from `first`."""
    studio.write("classes.txt", "cat\n")
    studio.video(f"{name}.mp4", N)
    for number in numbers:
        index = min(max(number - first, 0), N - 1)
        studio.write(f"labels/{name}_{number}.txt", f"0 {fractions(index)}\n")


def convert(studio: Studio, hint: int | None = None, label_format: str = "yolo") -> str:
    """Return the messages of a conversion whose boxes are where the pixels are."""
    reporter = Messages()
    (split,) = studio.prepare(label_format, hints=Hints(first_frame=hint), reporter=reporter)
    assert split.problems == []
    assert split.num_boxes == sum(len(frames) for frames in studio.shown().values())
    return reporter.text


@pytest.mark.parametrize(
    ("numbers", "first", "words"),
    [
        ([0, 3], 0, "from 0: frame 0 has a label"),
        ([1, 3], 1, "from 1: frame 1 has a label, but no frame 0"),
        ([3, 6], 1, "from 1: the number of the last label is the number of frames"),
        ([6], 1, "from 1: the number of the last label"),
        ([2, 4], 0, "from 0: a guess"),
        ([5], 0, "--first-frame 1 for the other"),
    ],
)
def test_one_video(studio: Studio, numbers: list[int], first: int, words: str) -> None:
    label(studio, "a", numbers, first)
    text = convert(studio)
    assert f"labels count the frames of a.mp4 from {first}: " in text and words in text


@pytest.mark.parametrize("first", [0, 1])
def test_the_option_decides(studio: Studio, first: int) -> None:
    label(studio, "a", [2, 4], first)
    assert f"a.mp4 from {first}: --first-frame states it" in convert(studio, first)


@pytest.mark.parametrize(
    ("a", "b", "first", "words"),
    [
        ([0, 2], [2, 3], (0, 0), "b.mp4 from 0: other videos of the data set do"),
        ([0, 2], [1, 3], (0, 0), "b.mp4 from 0: other videos of the data set do"),
        ([3, 6], [2, 3], (1, 1), "b.mp4 from 1: other videos of the data set do"),
        ([1, 2], [2, 3], (1, 1), "b.mp4 from 1: other videos of the data set seem to"),
        ([0, 2], [3, 6], (0, 1), "some videos count from 0, those of others from 1, as proven"),
        ([0, 2], [1, 6], (0, 1), "some videos count from 0, those of others from 1, as proven"),
    ],
)
def test_two_videos(
    studio: Studio, a: list[int], b: list[int], first: tuple[int, int], words: str
) -> None:
    label(studio, "a", a, first[0])
    label(studio, "b", b, first[1])
    assert words in convert(studio)


def test_numbers_that_no_way_of_counting_explains(studio: Studio) -> None:
    label(studio, "a", [0, 6], 0)
    assert studio.problems("yolo") == [
        "labels/a_6.txt: frame 6 (counted from 0), but a.mp4 has 6 frames"
    ]


@pytest.mark.parametrize(("numbers", "first"), [([3, 6], 1), ([0, 4], 0), ([2, 4], 0)])
def test_coco_and_voc(studio: Studio, numbers: list[int], first: int) -> None:
    studio.video("a.mp4", N)
    images, boxes = [], []
    for number in numbers:
        left, top, right, bottom = box_of(number - first)
        images.append({"id": number, "video_id": 1, "frame_id": number, "file_name": "a"})
        box = [left, top, right - left, bottom - top]
        boxes.append({"id": number, "image_id": number, "category_id": 1, "bbox": box})
        studio.write(
            f"a/{number}.xml",
            f"<annotation><size><width>{WIDTH}</width><height>{HEIGHT}</height></size><object>"
            f"<name>cat</name><bndbox><xmin>{left}</xmin><ymin>{top}</ymin><xmax>{right}</xmax>"
            f"<ymax>{bottom}</ymax></bndbox></object></annotation>",
        )
    content = {
        "videos": [{"id": 1, "name": "a", "file_name": "a.mp4"}],
        "images": images,
        "annotations": boxes,
        "categories": [{"id": 1, "name": "cat"}],
    }
    studio.write("set.json", json.dumps(content))
    for label_format in ("voc", "coco"):
        assert f"count the frames of a.mp4 from {first}: " in convert(studio, None, label_format)


@pytest.mark.parametrize(
    "folder", ["obj_train_data", "labels", "labels/train", "labels/Train", "train/labels"]
)
def test_labels_of_the_only_video_may_be_in_a_folder_without_its_name(
    studio: Studio, folder: str
) -> None:
    studio.video("a.mp4", N)
    studio.write("obj.names", "cat\n")
    studio.write("obj.data", "classes = 1\ntrain = data/train.txt\nnames = data/obj.names\n")
    names = [f"{folder}/frame_{number:06d}" for number in range(N)]
    studio.write("train.txt", "".join(f"data/{name}.PNG\n" for name in names))
    for number, name in enumerate(names):
        studio.write(f"{name}.txt", f"0 {fractions(number)}\n")
    assert f"{folder}: taken for the labels of a.mp4, the only video here" in convert(studio)


@pytest.mark.parametrize("others", [["b.mp4"], []])
def test_labels_of_an_unknown_video_are_refused(studio: Studio, others: list[str]) -> None:
    for name in ("a.mp4", *others):
        studio.video(name, 2)
    studio.write("classes.txt", "cat\n")
    folder = "obj_train_data" if others else "labels/b"
    for number in range(3):
        studio.write(f"{folder}/frame_{number}.txt", f"0 {fractions(0)}\n")
    with pytest.raises(DataError, match=f"{folder}/frame_0.txt and 2 more: no matching") as error:
        convert(studio)
    assert error.value.hint == "put the labels of a.mp4 into labels/a/000000.txt and so on"
