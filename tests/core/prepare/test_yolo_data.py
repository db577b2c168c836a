"""`data.yaml` as people write it, and the layouts in which tools export YOLO labels."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from own_sets import Messages, Studio, fractions

from sparsevod_core.errors import DataError
from sparsevod_core.prepare.yolo.data_yaml import read_data_yaml


@pytest.fixture
def studio(tmp_path: Path) -> Studio:
    return Studio(tmp_path)


def frames(studio: Studio, image: str, label: str, numbers: range = range(3)) -> None:
    for number in numbers:
        studio.image(image.format(number), number)
        studio.write(label.format(number), f"0 {fractions(number)}\n")


@pytest.mark.parametrize(
    "name",
    [
        *("off", "No", "YES", "null", "1.0", "1e3", "0o7", "010", "1:30", "2001-99-99", "=", "<<"),
        *(".inf", "'~'", "!!int x", "!!timestamp x", "!!float 2001-99-99", "'#1'", '"a b"'),
        "9" * 5000,
    ],
)
def test_names_are_as_written(tmp_path: Path, name: str) -> None:
    plain = name.rpartition(" ")[2] if name.startswith("!!") else name.strip("'\"")
    path = tmp_path / "data.yaml"
    for text in (f"names: [cat, {name}]", f"names:\n  0: cat\n  7: {name}\n"):
        path.write_text(text)
        assert list((read_data_yaml(path).names or {}).values()) == ["cat", plain]


def test_a_class_called_off(studio: Studio) -> None:
    frames(studio, "a/{}.png", "a/{}.txt")
    studio.write("a/2.txt", f"3 {fractions(2)}\n")
    studio.write("data.yaml", "nc: 4\nnames: [red, yellow, green, off]\n")
    (split,) = studio.prepare("yolo")
    assert split.boxes_per_class == {"red": 2, "yellow": 0, "green": 0, "off": 1}
    assert studio.shown()["a"][2] == (2, [3], [-1])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("names: {-1: cat}", "names: expected a mapping from class id to name"),
        ("names: {1.5: cat}", "got '1.5'"),
        ("names: {cat: 0}", "got 'cat'"),
        ("names: {010: cat}", "got '010'"),
        ("names:\n  ? " + "9" * 5000 + "\n  : cat", "got '9999"),
        ("names: {0: [cat]}", "names: 0: expected a name"),
        ("names: [[cat]]", "names: 0: expected a name"),
        ("names: cat", "names: expected a list"),
        ("names: {0: cat, 0: dog}", "'0' is repeated"),
        ("names: [cat]\nnames: [dog]", "'names' is repeated"),
        ("names: []", "no class names"),
        ("names: [cat, ~]", "class 1 has no name"),
        ("names: [cat, cat]", "are both 'cat'"),
        ("names: " + "[" * 20_000, "not valid YAML"),
        ("names: &a [*a]", "not valid YAML"),
        ("names: !!python/name:os.system", "not valid YAML"),
        ("- cat", "expected settings"),
        ("names: [cat]\ntrain: {a: b}", "train: expected text, or a list"),
        ("names: [cat]\ntrain: [[a]]", "train: expected text, or a list"),
        ("names: [cat]\ntrain: " + "a" * 5000, "does not exist below"),
        ('names: [cat]\ntrain: "a\\0b"', "does not exist below"),
        ("names: [cat]\ntrain: ../../../etc", "does not exist below"),
    ],
)
def test_other_names_and_locations_are_refused(studio: Studio, text: str, words: str) -> None:
    frames(studio, "a/{}.png", "a/{}.txt")
    studio.write("data.yaml", text)
    with pytest.raises(DataError) as error:
        studio.prepare("yolo")
    assert words in error.value.message
    assert "data.yaml" in error.value.message and len(error.value.message) < 400


def test_damaged_settings_raise_no_other_error(studio: Studio) -> None:
    frames(studio, "a/{}.png", "a/{}.txt", range(1))
    whole = b"path: .\ntrain: a\nval: a\nkpt_shape: [1, 2]\nnc: 2\nnames: {0: off, 1: &b no}\n"
    for seed in range(150):
        chance, text = random.Random(seed), bytearray(whole)
        for _ in range(chance.choice([1, 3, 8])):
            place = chance.randrange(len(text))
            text[place : place + chance.randrange(3)] = bytes(
                [chance.choice(b"[{&*!<:?-'\"\\|\0\xe4")]
            )
        studio.write("data.yaml", bytes(text))
        try:
            studio.prepare("yolo", dry_run=True)
        except DataError as error:
            assert "\n" not in error.message


def test_several_files_with_names_are_refused(studio: Studio) -> None:
    frames(studio, "a/{}.png", "a/{}.txt")
    studio.write("a.yaml", "names: [cat]")
    path = studio.write("b.yaml", "names: [dog]")
    studio.write("args.yaml", "epochs: 3")
    with pytest.raises(DataError, match=r"2 files with class names: a\.yaml, b\.yaml"):
        studio.prepare("yolo")
    (split,) = studio.prepare("yolo", path)
    assert split.boxes_per_class == {"dog": 3}


def test_another_number_of_classes_is_said(studio: Studio) -> None:
    frames(studio, "a/{}.png", "a/{}.txt")
    studio.write("data.yaml", "nc: 80\nnames: [cat]")
    reporter = Messages()
    studio.prepare("yolo", reporter=reporter)
    assert "data.yaml: nc is '80', but the file has 1 name" in reporter.text


def test_an_export_of_roboflow(studio: Studio) -> None:
    keys = "train: ../train/images\nval: ../valid/images\ntest: ../test/images\n"
    studio.write("data.yaml", f"{keys}nc: 1\nnames: ['cat']\nroboflow:\n  version: 1\n")
    for split, numbers in (("train", range(3)), ("valid", range(3, 5)), ("test", range(5, 7))):
        name = f"clip_{split}_mp4-{{}}_png.rf.0f3ac9{split[:2].encode().hex()}"
        frames(studio, f"{split}/images/{name}.png", f"{split}/labels/{name}.txt", numbers)
    reporter = Messages()
    train, val = studio.prepare("yolo", output=studio.out, reporter=reporter)
    assert (train.num_boxes, val.num_boxes) == (3, 2)
    assert "test: 1 video left out" in reporter.text


def test_an_export_of_label_studio(studio: Studio) -> None:
    studio.write("classes.txt", "cat\ndog\n")
    studio.write("notes.json", '{"categories": [{"id": 0, "name": "cat"}], "info": {"year": 2024}}')
    frames(studio, "images/clip_{:04}.png", "labels/clip_{:04}.txt")
    (split,) = studio.prepare("auto")
    assert split.boxes_per_class == {"cat": 3, "dog": 0}
    assert list(studio.shown()) == ["clip"]


@pytest.mark.parametrize("is_video", [True, False])
def test_exports_of_cvat(studio: Studio, is_video: bool) -> None:
    """CVAT's "Ultralytics YOLO", with images or of a video without them, and "YOLO 1.1"."""
    studio.write("data.yaml", "names:\n  0: cat\npath: ./\ntrain: train.txt\n")
    names = [f"images/train/frame_{number:06}" for number in range(3)]
    studio.write("train.txt", "".join(f"data/{name}.png\n" for name in names))
    for number, name in enumerate(names):
        studio.write(f"{name.replace('images', 'labels')}.txt", f"0 {fractions(number)}\n")
        if not is_video:
            studio.image(f"{name}.png", number)
    if is_video:
        studio.video("clip.mp4", 3)
    (split,) = studio.prepare("auto")
    assert (split.num_frames, split.num_boxes, split.problems) == (3, 3, [])
    assert [len(entries) for entries in studio.shown().values()] == [3]


def test_an_export_of_cvat_with_images_in_the_old_form(studio: Studio) -> None:
    studio.write("obj.names", "cat\n")
    studio.write("obj.data", "classes = 1\ntrain = data/train.txt\nnames = data/obj.names\n")
    name = "obj_train_data/frame_{:06}"
    studio.write("train.txt", "".join(f"data/{name.format(n)}.PNG\n" for n in range(3)))
    frames(studio, f"{name}.png", f"{name}.txt")
    (split,) = studio.prepare("auto")
    assert (split.num_videos, split.num_boxes, split.problems) == (1, 3, [])


def test_label_files_in_utf_16(studio: Studio) -> None:
    studio.write("data.yaml", "names: [cat]")
    studio.image("a/0.png", 0)
    studio.write("a/0.txt", f"0 {fractions(0)}\r\n".encode("utf-16"))
    assert studio.problems("yolo") == []
    assert studio.shown() == {"a": [(0, [0], [-1])]}
