"""YOLO text files: locations, content of a line, and invalid lines and class lists."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from own_sets import Studio, box_of, fractions

from sparsevod_core.errors import ConfigError, DataError
from sparsevod_core.prepare.reading.label_set import Hints

Labeled = Callable[..., None]
NAMES = "names: [cat, dog]\n"


@pytest.fixture
def studio(tmp_path: Path) -> Studio:
    return Studio(tmp_path)


@pytest.fixture
def labeled(studio: Studio) -> Labeled:
    """Return a function that writes frames with one label each: `labeled(IMAGE, LABEL)`."""

    def make(image: str, label: str, numbers: range = range(3), track: str = "") -> None:
        for number in numbers:
            studio.image(image.format(number), number)
            studio.write(label.format(number), f"1 {fractions(number)}{track}\n")

    return make


@pytest.mark.parametrize(
    ("image", "label"),
    [
        ("images/a/{:06d}.png", "labels/a/{:06d}.txt"),
        ("images/a_{:06d}.png", "labels/a_{:06d}.txt"),
        ("a/{:06d}.jpg", "a/{:06d}.txt"),
        ("a/images/frame_{}.png", "a/labels/frame_{}.txt"),
        ("a/{:06d}.png", "labels/a/{:06d}.txt"),
        ("images/a-{}_png.rf.0f3ac9.png", "labels/a-{}_png.rf.0f3ac9.txt"),
    ],
)
def test_common_locations_of_labels(
    studio: Studio, labeled: Labeled, image: str, label: str
) -> None:
    studio.write("data.yaml", NAMES)
    labeled(image, label, range(1, 4))
    assert studio.problems("yolo") == []
    (frames,) = studio.shown().values()
    assert [(number, classes) for number, classes, _ in frames] == [(1, [1]), (2, [1]), (3, [1])]
    content = json.loads((studio.out / "all.json").read_text())
    assert content["categories"] == [{"id": 0, "name": "cat"}, {"id": 1, "name": "dog"}]
    assert content["info"]["format"] == "yolo"


def test_frames_inside_video_files(studio: Studio) -> None:
    studio.write("classes.txt", "cat\ndog\n")
    for name in ("a", "b"):
        studio.video(f"videos/{name}.mp4", 6)
    for number in (0, 2, 5):
        studio.write(f"labels/a/{number:06d}.txt", f"0 {fractions(number)} 7\n")
        studio.write(f"labels/b_{number}.txt", f"1 {fractions(number)}\n")
    (split,) = studio.prepare("yolo")
    assert (split.num_videos, split.num_frames, split.num_boxes) == (2, 12, 6)
    shown = studio.shown()
    assert shown["a"] == [(0, [0], [0]), (2, [0], [0]), (5, [0], [0])]
    assert [(number, classes) for number, classes, _ in shown["b"]] == [
        (0, [1]),
        (2, [1]),
        (5, [1]),
    ]


def test_labels_with_1_based_frame_numbers(studio: Studio) -> None:
    studio.write("classes.txt", "cat\n")
    studio.video("a.mp4", 4)
    for number in range(4):
        studio.write(f"labels/a_{number + 1}.txt", f"0 {fractions(number)}\n")
    assert studio.problems("yolo") == []
    assert [number for number, _, _ in studio.shown()["a"]] == [0, 1, 2, 3]
    assert studio.problems("yolo", hints=Hints(first_frame=0)) == [
        "labels/a_4.txt: frame 4 (counted from 0), but a.mp4 has 4 frames"
    ]


@pytest.mark.parametrize(
    "train", ["images/train", "../images/train", "train.txt", "[images/train]"]
)
def test_splits_from_data_yaml(studio: Studio, labeled: Labeled, train: str) -> None:
    text = f"path: /elsewhere\ntrain: {train}\nval: images/val\nnames: {{3: cat, 1: dog}}\n"
    studio.write("data.yaml", text)
    studio.write(
        "train.txt", "./images/train/a/0.png\nimages/train/a/1.png\nimages/train/a/2.png\n"
    )
    for split in ("train", "val", "test"):
        labeled(f"images/{split}/a/{{}}.png", f"labels/{split}/a/{{}}.txt")
    train_split, val = studio.prepare("yolo", output=studio.out)
    assert (train_split.split, val.split) == ("train", "val")
    assert (train_split.num_boxes, val.num_boxes) == (3, 3)
    assert train_split.problems == val.problems == []
    assert list(studio.shown(studio.out / "val.json")) == ["a"]
    content = json.loads((studio.out / "train.json").read_text())
    assert [category["id"] for category in content["categories"]] == [1, 3]
    with pytest.raises(ConfigError, match="leave out --val-fraction"):
        studio.prepare("yolo", output=studio.out, val_fraction=0.5)


def test_a_random_split_by_video_is_recorded(studio: Studio, labeled: Labeled) -> None:
    studio.write("data.yaml", NAMES)
    for name in "abcdefgh":
        labeled(f"images/{name}/{{}}.png", f"labels/{name}/{{}}.txt", range(1))
    with pytest.raises(ConfigError, match="not divided"):
        studio.prepare("yolo", output=studio.out)

    def drawn(seed: int) -> tuple[list[str], list[str]]:
        train, val = studio.prepare("yolo", output=studio.out, val_fraction=0.25, seed=seed)
        assert (train.num_videos, val.num_videos) == (6, 2)
        contents = [json.loads(split.file.read_text()) for split in (train, val)]
        assert {k: contents[0]["info"][k] for k in ("val_fraction", "seed")} == {
            "val_fraction": 0.25,
            "seed": seed,
        }
        names = [[video["name"] for video in content["videos"]] for content in contents]
        assert sorted(names[0] + names[1]) == list("abcdefgh")
        return names[0], names[1]

    assert drawn(1) == drawn(1)
    assert len({tuple(drawn(seed)[1]) for seed in range(5)}) > 1


def test_frames_without_label_file_and_stills(studio: Studio, labeled: Labeled) -> None:
    studio.write("data.yaml", NAMES)
    labeled("images/a/{}.png", "labels/a/{}.txt", range(1, 3))
    studio.image("images/a/3.png", 3)
    labeled("images/{:04d}.png", "labels/{:04d}.txt", range(1, 2))
    studio.image("images/0002.png", 2)
    (split,) = studio.prepare("yolo")
    assert (split.num_videos, split.num_frames, split.num_empty) == (1, 3, 2)
    assert split.num_stills == 2 and split.problems == []
    (split,) = studio.prepare("yolo", hints=Hints(group_by_folder=True))
    assert (split.num_videos, split.num_stills) == (2, 0)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("0 0.5 0.5 0.1", "expected 5 numbers"),
        ("cat 0.5 0.5 0.1 0.1", "expected numbers"),
        ("0 0.5 nan 0.1 0.1", "finite"),
        ("0 0.5 0.5 -0.1 0.1", "positive width and height"),
        ("0 48 32 10 10", "not pixels"),
        ("2 0.5 0.5 0.1 0.1", "class 2 is not in the class list"),
        ("-1 0.5 0.5 0.1 0.1", "class -1 is not in the class list"),
        ("0.5 0.5 0.5 0.1 0.1", "integer class"),
        ("0 1.5 0.5 0.1 0.1", "outside the 96x64 frame"),
        ("0 0.99 0.5 0.2 0.1", "clipped"),
    ],
)
def test_an_invalid_line_is_reported_and_only_its_box_skipped(
    studio: Studio, line: str, words: str
) -> None:
    studio.write("data.yaml", NAMES)
    studio.image("a/1.png", 1)
    studio.write("a/1.txt", f"\n{line}\n1 {fractions(1)}\n")
    (problem,) = studio.problems("yolo", dry_run=True)
    assert problem.startswith("a/1.txt:2: ") and words in problem
    (split,) = studio.prepare("yolo")
    assert split.boxes_per_class["dog"] == 1
    with pytest.raises(DataError, match=r"a/1\.txt:2"):
        studio.prepare("yolo", strict=True)


def test_tracks_polygons_and_rounding_errors(studio: Studio) -> None:
    studio.write("data.yaml", NAMES)
    left, top, right, bottom = box_of(1)
    points = [(left, top), (right, bottom), (right, top)]
    polygon = " ".join(f"{x / 96:.6f} {y / 64:.6f}" for x, y in points)
    studio.image("a/1.png", 1)
    studio.write("a/1.txt", f"0 {fractions(1)} 12\n1 {polygon}\n")
    assert studio.problems("yolo") == []
    assert studio.shown() == {"a": [(1, [0, 1], [0, -1])]}
    studio.write("a/1.txt", "0 0.5 0.5 1.01 1.01\n")
    assert studio.problems("yolo") == []


def test_an_object_with_two_boxes_in_a_frame(studio: Studio) -> None:
    studio.write("data.yaml", NAMES)
    studio.image("a/1.png", 1)
    studio.write("a/1.txt", f"0 {fractions(1)} 4\n1 {fractions(1)} 4\n")
    twice = "object 4 has a box in frame 1 already"
    assert studio.problems("yolo") == [
        f"a/1.txt:2: {twice}, of another class: used without its track"
    ]
    studio.write("a/1.txt", f"0 {fractions(1)} 4\n0 0.5 0.5 0.1 0.1 4\n")
    assert studio.problems("yolo") == [f"a/1.txt:2: {twice}, skipped"]


def test_labels_and_frames_without_each_other(studio: Studio, labeled: Labeled) -> None:
    studio.write("data.yaml", NAMES)
    labeled("images/a/{}.png", "labels/a/{}.txt")
    studio.write("labels/b/0.txt", "0 0.5 0.5 0.1 0.1\n")
    studio.write("labels/b/1.txt", "0 0.5 0.5 0.1 0.1\n")
    studio.write("images/a/3.png", b"no image")
    (studio.root / "images/a/2.jpg").symlink_to(studio.root / "images/a/1.png")
    assert studio.problems("yolo") == [
        "labels/b/0.txt and 1 more: no matching image or video",
        "images/a/2.png: the same frame as images/a/2.jpg, skipped",
        "images/a/3.png: not an image that can be read",
    ]


def test_a_video_without_any_label_file_is_skipped(studio: Studio, labeled: Labeled) -> None:
    studio.write("data.yaml", NAMES)
    labeled("images/a/{}.png", "labels/a/{}.txt")
    studio.image("images/b/0.png", 0)
    studio.video("videos/a.mp4", 3)
    studio.image("images/c/0.png", 0)
    studio.write("labels/c/0.txt", "")
    (split,) = studio.prepare("yolo")
    assert (split.num_videos, split.num_frames, split.num_empty) == (2, 4, 1)
    assert [problem.partition(": video ")[0] for problem in split.problems] == [
        "images/b",
        "videos/a.mp4",
    ]


def test_links_to_folders_are_followed_unless_circular(
    studio: Studio, labeled: Labeled, tmp_path: Path
) -> None:
    studio.write("data.yaml", NAMES)
    labeled("images/a/{}.png", "labels/a/{}.txt")
    (studio.root / "images/a").rename(tmp_path / "frames_of_a")
    (studio.root / "images/a").symlink_to(tmp_path / "frames_of_a")
    (tmp_path / "frames_of_a" / "again").symlink_to(studio.root / "images")
    assert studio.problems("yolo") == []
    assert list(studio.shown()) == ["a"]


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("data.yaml", "names: 3\n", "names: expected a list"),
        ("data.yaml", "names: {a: b}\n", "mapping from class id"),
        ("data.yaml", "names: [cat, cat]\n", "are both 'cat'"),
        ("data.yaml", "names: [\n", "data.yaml:2: not valid YAML"),
        ("data.yaml", "names: !!python/object:os.system {}\n", "not valid YAML"),
        ("data.yaml", NAMES + "train: ../../etc\nval: a\n", "does not exist below"),
        ("classes.txt", "cat\n3: dog\n", "classes.txt:1: 'cat' has no id"),
        ("classes.txt", "\n", "no class names"),
        ("other.txt", "", "class ids only"),
    ],
)
def test_invalid_class_lists(
    studio: Studio, labeled: Labeled, name: str, text: str, words: str
) -> None:
    labeled("a/{}.png", "a/{}.txt")
    studio.write(name, text)
    with pytest.raises(DataError) as error:
        studio.prepare("yolo")
    assert words in error.value.message


def test_labels_in_another_unicode_form_than_their_images(studio: Studio, labeled: Labeled) -> None:
    labeled("images/u\u0308_{}.png", "labels/\u00fc_{}.txt")
    studio.write("data.yaml", NAMES)
    assert studio.problems("yolo") == []
    assert [len(frames) for frames in studio.shown().values()] == [3]


def test_classes_that_count_from_1_are_refused(studio: Studio) -> None:
    for number in range(6):
        studio.image(f"a/{number}.png", number)
        studio.write(f"a/{number}.txt", f"{1 + number % 2} {fractions(number)}\n")
    classes = studio.write("classes.txt", "cat\ndog\n")
    with pytest.raises(
        DataError, match=r"1\.txt:1: class 2, but the classes of 2 names count from 0"
    ):
        studio.prepare("yolo")
    classes.write_text("1: cat\n2: dog\n")
    (split,) = studio.prepare("yolo")
    assert split.boxes_per_class == {"cat": 3, "dog": 3}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("cat\n\ndog\n", ":2: an empty line between names"),
        ("0 cat\n1 dog\n", ":1: expected `NAME`"),
    ],
)
def test_class_lists_with_unclear_ids_are_refused(studio: Studio, text: str, words: str) -> None:
    studio.image("a/0.png", 0)
    studio.write("a/0.txt", f"0 {fractions(0)}\n")
    studio.write("classes.txt", text)
    with pytest.raises(DataError, match=words):
        studio.prepare("yolo")


def test_suffixes_in_upper_case(studio: Studio, labeled: Labeled) -> None:
    labeled("images/a_{}.PNG", "labels/a_{}.TXT")
    studio.write("classes.txt", "cat\ndog\n")
    assert studio.problems("yolo") == []
    assert [len(frames) for frames in studio.shown().values()] == [3]


def test_images_of_an_unknown_format_are_named(studio: Studio) -> None:
    studio.write("images/a_1.heic", b"heic")
    studio.write("labels/a_1.txt", f"0 {fractions(1)}\n")
    studio.write("classes.txt", "cat\n")
    with pytest.raises(DataError, match=r"images/a_1\.heic is no format that is read"):
        studio.prepare("yolo")


def test_a_column_of_minus_ones_is_no_track(studio: Studio, labeled: Labeled) -> None:
    labeled("a/{}.png", "a/{}.txt", track=" -1")
    studio.write("classes.txt", "cat\ndog\n")
    assert studio.problems("yolo") == []
    assert [frame[2] for frame in studio.shown()["a"]] == [[-1]] * 3


def test_the_lists_of_darknet_in_their_folder_data(studio: Studio, labeled: Labeled) -> None:
    labeled("data/obj/{}_1.png", "data/obj/{}_1.txt", range(4))
    studio.write("data/obj.names", "cat\ndog\n")
    studio.write("data/train.txt", "".join(f"data/obj/{n}_1.png\n" for n in range(3)))
    studio.write("data/valid.txt", "data/obj/3_1.png\n")
    lists = "train = data/train.txt\nvalid = data/valid.txt\nnames = data/obj.names\n"
    studio.write("data/obj.data", f"classes = 2\n{lists}")
    splits = studio.prepare("yolo", output=studio.out)
    assert [split.num_frames + split.num_stills for split in splits] == [3, 1]
