"""Pascal VOC folders: file locations, classes, and frames that do not match their XML."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from own_sets import HEIGHT, WIDTH, Studio, box_of

from sparsevod_core.errors import DataError
from sparsevod_core.prepare.reading.label_set import Hints


@pytest.fixture
def studio(tmp_path: Path) -> Studio:
    return Studio(tmp_path)


def xml(number: int, name: str = "dog", extra: str = "", width: int = WIDTH) -> str:
    left, top, right, bottom = box_of(number)
    box = f"<xmin>{left}</xmin><ymin>{top}</ymin><xmax>{right}</xmax><ymax>{bottom}</ymax>"
    size = f"<size><width>{width}</width><height>{HEIGHT}</height><depth>3</depth></size>"
    item = f"<object>\n<name>{name}</name><bndbox>{box}</bndbox>{extra}</object>"
    return f"<annotation>{size}\n{item}\n</annotation>"


@pytest.mark.parametrize(
    ("image", "label"),
    [
        ("a/{:06d}.png", "a/{:06d}.xml"),
        ("JPEGImages/a/{:06d}.jpg", "Annotations/a/{:06d}.xml"),
        ("images/a_{}.png", "annotations/a_{}.xml"),
    ],
)
def test_frames_beside_or_in_a_parallel_tree(studio: Studio, image: str, label: str) -> None:
    for number in range(1, 4):
        studio.image(image.format(number), number)
        studio.write(label.format(number), xml(number, extra="<trackid>3</trackid>"))
    studio.image(image.format(4), 4)
    assert studio.problems("voc") == []
    assert studio.shown() == {"a": [(1, [1], [0]), (2, [1], [0]), (3, [1], [0])]}
    content = json.loads((studio.out / "all.json").read_text())
    assert len(content["images"]) == 4 and content["info"]["format"] == "voc"


def test_frames_inside_a_video_file(studio: Studio) -> None:
    studio.video("videos/a.mp4", 4)
    for number in (0, 3):
        studio.write(f"Annotations/a/{number:06d}.xml", xml(number))
    assert studio.problems("voc") == []
    assert [number for number, _, _ in studio.shown()["a"]] == [0, 3]


def test_classes_are_sorted_over_both_splits_or_as_listed(studio: Studio) -> None:
    for split, name in (("train", "zebra"), ("val", "ant")):
        studio.image(f"{split}/a/1.png", 1)
        studio.write(f"{split}/a/1.xml", xml(1, name))
    studio.prepare("voc", output=studio.out)
    for split in ("train", "val"):
        content = json.loads((studio.out / f"{split}.json").read_text())
        names = [(category["id"], category["name"]) for category in content["categories"]]
        assert names == [(1, "ant"), (2, "zebra")]
    names_file = studio.write("names.txt", "zebra\nbee\n")
    train, val = studio.prepare("voc", output=studio.out, hints=Hints(classes=names_file))
    assert train.boxes_per_class == {"zebra": 1, "bee": 0} and train.problems == []
    assert [p.partition("1.xml")[2] for p in val.problems] == [
        ":2: unknown class 'ant', box skipped"
    ]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (xml(2)[:-30], "a/2.xml:3: broken XML"),
        (xml(2, width=90), "a/2.png: 96x64 pixels, but"),
        ('<!DOCTYPE x [<!ENTITY a "b">]>' + xml(2), "document type or entity declaration"),
        (
            xml(2).replace("<xmax>38", "<xmax>nan"),
            "a/2.xml:2: <xmax>: expected a number",
        ),
        (xml(2).replace("<xmax>38", "<xmax>8"), "a/2.xml:2: box (14, 10, 8, 26) is empty"),
        (xml(2).replace("<xmax>38", "<xmax>980"), "a/2.xml:2: box (14, 10, 980, 26) leaves"),
    ],
)
def test_mismatches_are_reported(studio: Studio, text: str, words: str) -> None:
    for number in (1, 2):
        studio.image(f"a/{number}.png", number)
        studio.write(f"a/{number}.xml", xml(number))
    studio.write("a/2.xml", text)
    (problem,) = studio.problems("voc")
    assert words in problem
    with pytest.raises(DataError):
        studio.prepare("voc", strict=True)


def test_an_xml_without_a_frame(studio: Studio) -> None:
    studio.image("a/1.png", 1)
    studio.write("a/1.xml", xml(1))
    studio.write("a/2.xml", xml(2))
    assert studio.problems("voc") == ["a/2.xml: no matching image or video"]


def test_difficult_objects_are_crowd_boxes(studio: Studio) -> None:
    for number in (1, 2):
        studio.image(f"a/{number}.png", number)
        difficult = f"<difficult>{number - 1}</difficult>"
        studio.write(f"a/{number}.xml", xml(number, extra=difficult))
    (split,) = studio.prepare("voc")
    assert split.problems == []
    assert split.left_out == {"boxes marked difficult, kept as crowd boxes": 1}
    content = json.loads((studio.out / "all.json").read_text())
    assert [box["iscrowd"] for box in content["annotations"]] == [0, 1]


@pytest.mark.parametrize("sides", [(0, 0), (0, HEIGHT), (WIDTH, 0)])
def test_the_picture_has_the_size_that_the_label_lacks(
    studio: Studio, sides: tuple[int, int]
) -> None:
    studio.image("1.jpg", 1).rename(studio.write("a/1.png", ""))  # a JPEG with another suffix
    stated = f"<width>{sides[0]}</width><height>{sides[1]}</height>"
    size = f"<width>{WIDTH}</width><height>{HEIGHT}</height>"
    studio.write("a/1.xml", xml(1).replace(size, stated))
    assert studio.problems("voc") == []
    assert studio.shown() == {"a": [(1, [1], [-1])]}


def test_boxes_in_fractions_of_the_frame_are_refused(studio: Studio) -> None:
    box = "<xmin>0.1</xmin><ymin>0.2</ymin><xmax>0.7</xmax><ymax>0.4</ymax>"
    for number in (1, 2):
        studio.image(f"a/{number}.png", number)
        item = f"<object><name>dog</name><bndbox>{box}</bndbox></object>"
        studio.write(f"a/{number}.xml", f"<annotation>{item}</annotation>")
    with pytest.raises(DataError, match="look like fractions of the frame"):
        studio.prepare("voc")
    assert not (studio.out / "all.json").exists()
