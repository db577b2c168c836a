"""MOT text files of several benchmarks and tools: meaning of columns, and of frame numbers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from own_sets import Messages, Studio, box_of

from sparsevod_core.errors import DataError
from sparsevod_core.prepare.formats import recognize
from sparsevod_core.prepare.reading.label_set import Hints


@pytest.fixture
def studio(tmp_path: Path) -> Studio:
    return Studio(tmp_path)


def row(number: int, track: int, tail: str, *, origin: int = 0, frame: int | None = None) -> str:
    left, top, right, bottom = box_of(number)
    frame = number if frame is None else frame
    return f"{frame},{track},{left + origin},{top + origin},{right - left},{bottom - top}{tail}\n"


def sequence(studio: Studio, text: str, name: str = "A", images: str = "img1/{:06d}.jpg") -> None:
    for number in range(1, 4):
        studio.image(f"{name}/{images.format(number)}", number)
    studio.write(f"{name}/gt/gt.txt", text)


def classes(studio: Studio) -> dict[str, int]:
    content = json.loads((studio.out / "all.json").read_text())
    names = {category["id"]: category["name"] for category in content["categories"]}
    counts = dict.fromkeys(names.values(), 0)
    for box in content["annotations"]:
        counts[names[box["category_id"]]] += 1
    return counts


VISDRONE = (
    row(1, 1, ",1,1,0,0") + row(1, 2, ",1,4,0,1") + row(2, 1, ",1,9,1,2") + row(2, 0, ",0,0,0,0")
)


def test_visdrone_in_folders_of_mot_challenge(studio: Studio) -> None:
    sequence(studio, VISDRONE + row(3, 3, ",1,11,0,0"))
    notes = Messages()
    (split,) = studio.prepare("mot", reporter=notes)
    assert split.problems == []
    assert split.left_out == {
        "boxes around ignored regions": 1,
        "boxes of VisDrone's class others": 1,
    }
    assert classes(studio) == {"pedestrian": 1, "car": 1, "bus": 1}
    assert studio.shown()["A"] == [(1, [1, 4], [0, 1]), (2, [9], [0])]
    assert any("columns are those of VisDrone: frame, id, left" in line for line in notes.messages)


def test_visdrone_in_its_own_folders(studio: Studio) -> None:
    for split in ("train", "val"):
        for number in range(1, 4):
            studio.image(f"VisDrone2019-VID-{split}/sequences/A/{number:07d}.jpg", number)
        studio.write(f"VisDrone2019-VID-{split}/annotations/A.txt", VISDRONE)
    sign = "VisDrone2019-VID-train/annotations/A.txt"
    assert recognize(studio.root) == ("mot", sign)
    train, val = studio.prepare("auto", output=studio.out)
    assert (train.num_frames, val.num_frames, train.problems) == (3, 3, [])
    assert recognize(studio.root / "VisDrone2019-VID-val") == ("mot", "annotations/A.txt")


@pytest.mark.parametrize("first", ["ignored regions\n", "0: ignored regions\n"])
def test_class_list_of_visdrone_from_0(studio: Studio, first: str) -> None:
    sequence(studio, VISDRONE)
    names = "pedestrian people bicycle car van truck tricycle awning-tricycle bus motor others"
    prefix = "{}: {}\n" if first[0] == "0" else "{1}\n"
    lines = [prefix.format(*pair) for pair in enumerate(names.split(), start=1)]
    path = studio.write("names.txt", first + "".join(lines))
    assert studio.problems("mot", hints=Hints(classes=path)) == []
    counts = classes(studio)
    assert (counts["pedestrian"], counts["car"], counts["bus"], counts["people"]) == (1, 1, 1, 0)
    content = json.loads((studio.out / "all.json").read_text())
    assert [box["category_id"] for box in content["annotations"] if box["iscrowd"]] == [0]


def test_uavdt(studio: Studio) -> None:
    sequence(studio, row(1, 1, ",1,1,1") + row(2, 1, ",1,3,1"))
    sequence(studio, row(1, 1, ",1,1,3") + row(2, 1, ",2,2,1"), name="B")
    assert studio.problems("mot") == []
    assert classes(studio) == {"car": 3, "bus": 1}
    assert studio.shown()["B"] == [(1, [3], [0]), (2, [1], [0])]


@pytest.mark.parametrize("separator", [",", ", ", ";", "\t", " "])
@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_separators_and_encodings(studio: Studio, separator: str, encoding: str) -> None:
    text = row(1, 1, ",1,1,0.25", origin=1) + row(3, 1, ",1,1,1", origin=1)
    text = text.replace(",", separator)
    if separator == ";":
        text = text.replace("0.25", "0,25")
    sequence(studio, "")
    studio.write("A/gt/gt.txt", text.encode(encoding))
    assert studio.problems("mot") == []
    assert studio.shown() == {"A": [(1, [1], [0]), (3, [1], [0])]}
    content = json.loads((studio.out / "all.json").read_text())
    assert [box["occluded"] for box in content["annotations"]] == [True, False]


@pytest.mark.parametrize(
    ("header", "tail"),
    [
        ("frame,id,left,top,width,height,-,class", ",7,2"),
        ("FrameId, Id, X, Y, Width, Height, Confidence, ClassId, Visibility", ",1,2,0.5"),
        ('# "frame_id","track_id","x","y","w","h","not ignored","class_id","visibility"', ",1,2,1"),
        ("frame,id,bb_left,bb_top,bb_width,bb_height,conf,class,x,y,z", ",1,2,5,5,5"),
    ],
)
def test_a_first_line_states_the_columns(studio: Studio, header: str, tail: str) -> None:
    sequence(studio, "\n" + header + "\n" + row(1, 1, tail, origin=1))
    assert studio.problems("mot") == []
    assert studio.shown() == {"A": [(1, [2], [0])]}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (row(1, -1, ",0.93,-1,-1,-1"), "these are detections or tracks of a detector, not labels"),
        (row(1, -1, ",58.6,-1,-1,-1"), "column 7 (conf) holds 58.6 to 58.6, expected 0 or 1"),
        (row(1, -1, ",58,-1,-1,-1"), "these are detections"),
        (row(1, 4, ",0.5,-1,-1,-1"), "these are detections"),
        (row(1, 4, ",0.5,1,1"), "these are detections"),
        (row(1, 4, ",5"), "cannot tell what column 7 of 7 means, which holds 5 to 5"),
        (row(1, 4, ",1,2,100"), "cannot tell what column 9 of 9"),
        (row(1, 4, ",1,0,0,0"), "cannot tell what column 8 of 10"),
        (row(1, 4, ",1,2,0.5,0"), "cannot tell what column 8 of 10"),
        (row(1, 4, ",1,1,1,0,0,0"), "cannot tell what column 8 of 12"),
        (row(1, 4, ",0,1,1"), "all boxes are marked to be ignored"),
        ("frame,id,xmin,ymin,xmax,ymax\n" + row(1, 4, ""), "no column 'width'"),
        ("frame,id,x,y,w,h,class,class\n" + row(1, 4, ",1,1"), "a column is named twice"),
        ("frame,id,x,y,w,h,class\n" + row(1, 4, ",1,1"), "7 names for 8 columns"),
        ("0 2 Car 0 0 -1.7 296.7 161.7 455.2 292.3 2 1.8 4.4 -4.5 1.8 13.4 -2.1\n", "got '0 2 Car"),
    ],
)
def test_what_cannot_be_told_is_refused(studio: Studio, text: str, words: str) -> None:
    sequence(studio, text)
    with pytest.raises(DataError) as caught:
        studio.prepare("mot")
    assert words in caught.value.message
    assert str(studio.root) in caught.value.message


def test_files_without_a_class(studio: Studio) -> None:
    sequence(studio, row(1, 1, ",1,-1,-1,-1", origin=1))
    one = studio.write("one.txt", "drone\n")
    assert studio.problems("mot", hints=Hints(classes=one)) == []
    assert classes(studio) == {"drone": 1}
    two = studio.write("two.txt", "drone\nbird\n")
    with pytest.raises(
        DataError, match=r"gt\.txt: no column with a class, but 2 classes are named"
    ):
        studio.prepare("mot", hints=Hints(classes=two))


def test_kitti_is_refused_by_name(studio: Studio) -> None:
    studio.write(
        "training/label_02/0000.txt", "0 2 Car 0 0 -1.7 1 2 3 4 2 1.8 4.4 -4.5 1.8 13 -2\n"
    )
    studio.image("training/image_02/0000/000000.png", 1)
    with pytest.raises(DataError, match="KITTI's tracking labels"):
        studio.prepare("auto")


def test_two_benchmarks_in_one_set(studio: Studio) -> None:
    sequence(studio, VISDRONE)
    sequence(studio, row(1, 1, ",1,1,0.5"), name="B")
    with pytest.raises(
        DataError, match="labels of VisDrone and MOT Challenge, whose class numbers"
    ):
        studio.prepare("mot")


def images_from(studio: Studio, first: int, names: str = "{:06d}.jpg") -> None:
    """Write the pictures 1 to 3, whose names start at `first`."""
    for number in range(1, 4):
        studio.image(f"A/img1/{names.format(number - 1 + first)}", number)


def labels_from(studio: Studio, first: int, numbers: range = range(1, 4)) -> None:
    """Write labels of pictures, the first of which has this number."""
    rows = [row(n, 1, ",1,1,1", origin=1, frame=n - 1 + first) for n in numbers]
    studio.write("A/gt/gt.txt", "".join(rows))


@pytest.mark.parametrize(
    ("images", "labels", "labeled"),
    [
        (1, 1, range(1, 4)),
        (1, 0, range(1, 4)),
        (0, 0, range(1, 4)),
        (0, 1, range(1, 4)),
        (0, 1, range(3, 4)),
        (0, 0, range(1, 2)),
        (7, 7, range(1, 4)),
        (7, 1, range(1, 4)),
        (7, 0, range(1, 4)),
    ],
)
def test_frames_are_found_whatever_they_are_counted_from(
    studio: Studio, images: int, labels: int, labeled: range
) -> None:
    images_from(studio, images)
    labels_from(studio, labels, labeled)
    assert studio.problems("mot") == []
    assert studio.shown()["A"] == [(number - 1 + images, [1], [0]) for number in labeled]


@pytest.mark.parametrize(
    ("images", "labeled"),
    [(0, (1, 2)), (0, (1, 3, 9)), (1, (0, 1, 3))],
)
def test_frame_numbers_that_nothing_tells(
    studio: Studio, images: int, labeled: tuple[int, ...]
) -> None:
    images_from(studio, images)
    rows = [row(number, 1, ",1,1,1", origin=1) for number in labeled]
    studio.write("A/gt/gt.txt", "".join(rows))
    words = f"images are numbered {images} to {images + 2}, labels {labeled[0]} to {labeled[-1]}"
    with pytest.raises(DataError, match=words) as caught:
        studio.prepare("mot")
    assert "--first-frame 1" in (caught.value.hint or "")
    problems = studio.problems("mot", hints=Hints(first_frame=1))
    assert len(problems) == sum(not 1 <= number <= 3 for number in labeled)
    assert [number for number, _, _ in studio.shown()["A"]] == [
        number - 1 + images for number in labeled if 1 <= number <= 3
    ]


@pytest.mark.parametrize(("names", "labels"), [("frame_{:06d}.png", 1), ("{:06d}.png", 0)])
def test_frame_numbers_of_cvat(studio: Studio, names: str, labels: int) -> None:
    images_from(studio, 0, names)
    rows = [row(n, 1, ",1,1,1", frame=n - 1 + labels) for n in (2, 3 - labels)]
    studio.write("A/gt/gt.txt", "".join(dict.fromkeys(rows)))
    studio.write("A/gt/labels.txt", "cat\n")
    assert studio.problems("mot") == []
    assert 1 in [number for number, _, _ in studio.shown()["A"]]


@pytest.mark.parametrize("first", [0, 1])
def test_frame_numbers_of_a_video_file(studio: Studio, first: int) -> None:
    studio.video("A/A.mp4", 4)
    rows = [row(n, 1, ",1,1,1", origin=1, frame=n + first) for n in (0, 2)]
    studio.write("A/gt/gt.txt", "".join(rows))
    assert studio.problems("mot") == []
    assert [number for number, _, _ in studio.shown()["A"]] == [0, 2]
