"""MOT Challenge folders: 1-based numbers, ignored entries, invalid lines and files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from own_sets import Studio, box_of

from sparsevod_core.errors import DataError
from sparsevod_core.prepare.reading.label_set import Hints


@pytest.fixture
def studio(tmp_path: Path) -> Studio:
    return Studio(tmp_path)


def line(number: int, track: int = 5, rest: str = "1,1,1.0", origin: int = 1) -> str:
    """Return the ground-truth line of frame `number`, counted from 0."""
    left, top, right, bottom = box_of(number)
    box = f"{left + origin},{top + origin},{right - left},{bottom - top}"
    return f"{number + 1},{track},{box},{rest}\n"


def sequence(studio: Studio, name: str = "A", num_frames: int = 3, text: str = "") -> None:
    for number in range(num_frames):
        studio.image(f"{name}/img1/{number + 1:06d}.jpg", number)
    studio.write(f"{name}/gt/gt.txt", text or "".join(map(line, range(num_frames))))


def test_frames_and_pixels_are_1_based(studio: Studio) -> None:
    sequence(studio)
    info = "[Sequence]\nname=A\nimDir=img1\nframeRate=30\nseqLength=3\nimWidth=96\nimHeight=64\n"
    studio.write("A/seqinfo.ini", info + "imExt=.jpg\n")
    assert studio.problems("mot") == []
    assert studio.shown() == {"A": [(1, [1], [0]), (2, [1], [0]), (3, [1], [0])]}
    content = json.loads((studio.out / "all.json").read_text())
    assert content["categories"] == [{"id": 1, "name": "pedestrian"}]
    assert all(0 < box["motion_iou"] < 1 for box in content["annotations"])


def test_a_video_file_instead_of_images(studio: Studio) -> None:
    for place in ("A.mp4", "B/B.mp4", "C/clip.mp4"):
        name = place[0]
        studio.video(place, 4)
        studio.write(f"{name}/gt/gt.txt", line(0) + line(3) + line(4))
    (split,) = studio.prepare("mot")
    assert (split.num_videos, split.num_frames, split.num_empty) == (3, 12, 6)
    assert [problem.partition("gt.txt")[2] for problem in split.problems] == [
        ":3: frame 5 does not exist, skipped"
    ] * 3
    shown = studio.shown()
    assert [shown[name] for name in "ABC"] == [[(0, [1], [0]), (3, [1], [0])]] * 3


def test_exports_from_cvat_are_0_based_and_have_class_names(studio: Studio) -> None:
    text = "".join(line(number, rest="1,2,0.4", origin=0) for number in range(3))
    sequence(studio, text=text)
    studio.write("A/gt/labels.txt", "cat\ndog\n")
    assert studio.problems("mot") == []
    assert studio.shown() == {"A": [(1, [2], [0]), (2, [2], [0]), (3, [2], [0])]}
    content = json.loads((studio.out / "all.json").read_text())
    assert [category["name"] for category in content["categories"]] == ["cat", "dog"]
    assert all(box["occluded"] for box in content["annotations"])


def test_ignored_entries_are_neither_trained_on_nor_scored(studio: Studio) -> None:
    """An entry with `conf` 0 is a crowd box if its class is used, and skipped otherwise."""
    text = line(0) + line(0, 6, "0,1,1.0") + line(0, 7, "0,8,1.0")
    sequence(studio, text=text)
    (split,) = studio.prepare("mot")
    assert split.problems == []
    assert split.left_out == {
        "boxes marked to be ignored": 1,
        "boxes marked to be ignored, kept as crowd boxes": 1,
    }
    content = json.loads((studio.out / "all.json").read_text())
    assert [(box["category_id"], box["iscrowd"]) for box in content["annotations"]] == [
        (1, 0),
        (1, 1),
    ]
    assert [category["id"] for category in content["categories"]] == [1]


def test_mot15_has_no_class_column(studio: Studio) -> None:
    sequence(studio, "A", text=line(0, rest="1,-1,-1,-1") + line(1, rest="1,4.5,2.5,0"))
    sequence(studio, "B", text=line(0, rest="1"))
    sequence(studio, "C", text=line(0, rest="1,1,1"))
    assert studio.problems("mot") == []
    shown = studio.shown()
    assert [[classes for _, classes, _ in shown[name]] for name in "ABC"] == [
        [[1], [1]],
        [[1]],
        [[1]],
    ]


def test_boxes_that_leave_the_frame_are_clipped(studio: Studio) -> None:
    sequence(studio, "A", 1, text="1,5,-10,-4,50,30,1,1,1\n1,6,97,10,5,5,1,1,1\n")
    assert studio.problems("mot") == [
        "A/gt/gt.txt:2: box (96, 9, 101, 14) lies outside the 96x64 frame, skipped"
    ]
    content = json.loads((studio.out / "all.json").read_text())
    assert [box["bbox"] for box in content["annotations"]] == [[0, 0, 39, 25]]


def test_one_of_the_copies_for_detectors_is_used(studio: Studio) -> None:
    for detector in ("DPM", "FRCNN", "SDP"):
        sequence(studio, f"MOT17-02-{detector}")
    (split,) = studio.prepare("mot")
    assert (split.num_videos, split.num_frames) == (1, 3)


def test_custom_classes(studio: Studio) -> None:
    sequence(studio, text=line(0, rest="1,40,1.0"))
    with pytest.raises(DataError, match="class 40 is not a class of MOT Challenge"):
        studio.prepare("mot")
    names = studio.write("names.txt", "40: zebra\n7: gnu\n")
    assert studio.problems("mot", hints=Hints(classes=names)) == []
    content = json.loads((studio.out / "all.json").read_text())
    assert content["categories"] == [{"id": 40, "name": "zebra"}, {"id": 7, "name": "gnu"}]


def test_train_and_val_folders(studio: Studio) -> None:
    for split in ("train", "val"):
        sequence(studio, f"{split}/A")
    train, val = studio.prepare("mot", output=studio.out)
    assert (train.split, train.num_frames, val.split, val.num_frames) == ("train", 3, "val", 3)
    assert list(studio.shown(studio.out / "val.json")) == ["A"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("1,5,10", "expected 9 columns, got 3"),
        ("1;5;10;10;5;5", "expected 9 columns, got 6"),
        ("1,5,10,,5,5,1,1,1", "expected numbers between commas"),
        ("one", "expected numbers between commas"),
        ("1,5,nan,10,5,5,1,1,1", "finite"),
        ("1,5,10,10,-5,5,1,1,1", "got -5x5"),
        ("1.5,5,10,10,5,5,1,1,1", "expected integers"),
        ("9,5,10,10,5,5,1,1,1", "frame 9 does not exist"),
        ("1,5,10,10,5,5,1,1,1", "object 5 has a box in frame 1 already"),
    ],
)
def test_an_invalid_line_is_reported(studio: Studio, text: str, words: str) -> None:
    sequence(studio, text=line(0) + text + "\n" + line(1))
    (problem,) = studio.problems("mot")
    assert problem.startswith("A/gt/gt.txt:2: ") and words in problem
    assert [number for number, _, _ in studio.shown()["A"]] == [1, 2]
    with pytest.raises(DataError, match=r"gt\.txt:2: "):
        studio.prepare("mot", strict=True)


@pytest.mark.parametrize(
    ("info", "words"),
    [
        ("[Sequence]\nimDir=../../x\n", "is outside the sequence's folder"),
        ("nothing", "[Sequence]"),
        ("[Sequence]\nseqLength=many\n", "got 'many'"),
        ("[Sequence]\nseqLength=9\n", "seqLength is 9, but 3 frames exist"),
    ],
)
def test_an_invalid_seqinfo_is_reported(studio: Studio, info: str, words: str) -> None:
    sequence(studio, "A")
    sequence(studio, "B")
    studio.write("A/seqinfo.ini", info)
    (problem,) = studio.problems("mot")
    assert problem.startswith("A/seqinfo.ini: ") and words in problem
    assert "B" in studio.shown()


def test_a_sequence_without_frames_and_frames_without_a_sequence(studio: Studio) -> None:
    sequence(studio, "A")
    studio.write("B/gt/gt.txt", line(0))
    (problem,) = studio.problems("mot")
    assert problem.endswith("found neither, sequence skipped") and "B/img1" in problem
    with pytest.raises(DataError, match="no MOT sequence here"):
        studio.prepare("mot", studio.root / "A" / "img1")


def test_a_sequence_of_another_size_than_seqinfo_states_is_skipped(studio: Studio) -> None:
    for name, width in (("A", 96), ("B", 192)):
        sequence(studio, name)
        studio.write(f"{name}/seqinfo.ini", f"[Sequence]\nimWidth={width}\nimHeight=64\n")
    (problem,) = studio.problems("mot")
    assert problem.startswith("B/img1/000001.jpg: 96x64 pixels, but imWidth and imHeight in ")
    assert list(studio.shown()) == ["A"]


def test_two_classes_with_the_same_track_keep_their_boxes(studio: Studio) -> None:
    sequence(studio, text="".join(line(n) + line(n, rest="1,3,1.0") for n in range(3)))
    (split,) = studio.prepare("mot")
    assert split.boxes_per_class == {"pedestrian": 3, "car": 3}
    assert (split.num_tracks, len(split.problems)) == (1, 3)
    assert split.problems[0].endswith("of another class: used without its track")


def test_hidden_files_of_macos_are_no_data(studio: Studio) -> None:
    sequence(studio)
    studio.write("A/img1/._000001.jpg", b"\0\5\x16\7")
    studio.video("B/clip.mp4", 1)
    studio.write("B/._clip.mp4", b"\0\5\x16\7")
    studio.write("B/gt/gt.txt", line(0))
    assert studio.problems("mot") == []
    assert [len(frames) for frames in studio.shown().values()] == [3, 1]
