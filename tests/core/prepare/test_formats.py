"""Recognition of the format of a folder, and grouping of frames into videos."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from own_sets import Studio

from sparsevod_core.errors import DataError
from sparsevod_core.prepare.formats import FORMATS, recognize

CVAT = '<?xml version="1.0"?>\n<annotations><meta><task></task></meta></annotations>'
COCO = json.dumps({"images": [], "annotations": [], "categories": []})


@pytest.fixture
def studio(tmp_path: Path) -> Studio:
    return Studio(tmp_path)


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("Data/VID/val/a/000000.JPEG", "", ("imagenet", "Data/VID")),
        ("ILSVRC2017/Data/VID/val/a/000000.JPEG", "", ("imagenet", "Data/VID")),
        ("mine.json", COCO, ("coco", "mine.json")),
        ("annotations/instances_train2017.json", COCO, ("coco", "instances_train2017.json")),
        ("train/MOT17-02-DPM/gt/gt.txt", "", ("mot", "train/MOT17-02-DPM/gt/gt.txt")),
        ("gt/gt.txt", "", ("mot", "gt/gt.txt")),
        ("data.yaml", "names: [a]", ("yolo", "data.yaml with names")),
        ("set.yml", "names: [a]", ("yolo", "set.yml with names")),
        ("labels/train/a/000001.txt", "0 0.5 0.5 0.1 0.1 3\n", ("yolo", "labels/train")),
        ("a/000001.xml", "<!-- by hand --><annotation>", ("voc", "a/000001.xml")),
        ("task/annotations.xml", CVAT, ("cvat", "task/annotations.xml")),
    ],
)
def test_each_format_is_recognized(
    studio: Studio, name: str, text: str, expected: tuple[str, str]
) -> None:
    studio.write("README.txt", "1 2 3 4 five")
    studio.write(name, text)
    label_format, sign = recognize(studio.root)
    assert label_format == expected[0] and expected[1] in sign


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [("a.json", COCO, "coco"), ("a.xml", CVAT, "cvat"), ("a.yaml", "names: [a]", "yolo")],
)
def test_one_file_is_recognized(studio: Studio, name: str, text: str, expected: str) -> None:
    assert recognize(studio.write(name, text))[0] == expected


def test_no_format_and_several_formats_are_one_line(studio: Studio) -> None:
    studio.image("a/1.png", 1)
    with pytest.raises(DataError) as error:
        recognize(studio.root)
    assert all(name in error.value.message for name in ("imagenet", *FORMATS))
    assert "\n" not in error.value.message
    studio.write("data.yaml", "names: [a]")
    studio.write("mine.json", COCO)
    with pytest.raises(DataError, match=r"more than one format: coco .*, yolo .*") as error:
        recognize(studio.root)
    assert error.value.hint == "choose one: --format coco"
    with pytest.raises(DataError, match="no such file or folder"):
        recognize(studio.root / "nowhere")


def test_a_prepared_file_may_be_beside_its_labels(studio: Studio) -> None:
    studio.write("data.yaml", "names: [a]")
    studio.image("a/1.png", 1)
    studio.write("a/1.txt", "0 0.5 0.5 0.1 0.1\n")
    studio.prepare("yolo", output=studio.root / "train.json")
    assert recognize(studio.root)[0] == "yolo"
    (studio.root / "data.yaml").unlink()
    (studio.root / "a" / "1.txt").unlink()
    assert recognize(studio.root)[0] == "coco"


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("a/1.json", '{"version": "5.0", "shapes": [], "imagePath": "1.png"}', "LabelMe's JSON"),
        ("bdd.json", '[{"labels": [{"category": "car", "box2d": {}}]}]', "BDD100K"),
        ("train.json", '{"videos": [{"file_names": ["a/1.jpg"]}]}', "YouTube-VIS's JSON"),
        ("MVI_1.xml", '<?xml version="1.0"?>\n<sequence name="MVI_1">', "UA-DETRAC's XML"),
        ("training/label_2/000001.txt", "Car 0 0 0 1 2 3 4 1 1 1 1 1 1 1\n", "KITTI's format"),
        ("boxes.csv", "file,x1,y1,x2,y2,class\n", "a table"),
        ("export.zip", b"PK\x03\x04", "an archive"),
    ],
)
def test_formats_that_are_not_read_are_named(
    studio: Studio, name: str, text: str | bytes, words: str
) -> None:
    studio.write("README.txt", "notes")
    path = studio.write(name, text)
    for place in (studio.root, path):
        with pytest.raises(DataError, match=f"{path.name} is {words}") as error:
            recognize(place)
        assert error.value.hint


def test_a_class_list_alone_is_no_sign_of_yolo(studio: Studio) -> None:
    studio.write("a/000001.xml", "<annotation>")
    studio.write("classes.txt", "cat\n")
    assert recognize(studio.root)[0] == "voc"
