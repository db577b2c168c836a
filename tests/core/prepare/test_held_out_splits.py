"""Test data are nobody's training or validation data, in every format and layout."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from own_sets import Messages, Studio, box_of, fractions

from sparsevod_core.errors import ConfigError, DataError
from sparsevod_core.prepare.reading.split_names import split_in_words, split_named

NAMES = "names: [cat]\n"


@pytest.fixture
def studio(tmp_path: Path) -> Studio:
    return Studio(tmp_path)


def yolo(studio: Studio, image: str, label: str) -> None:
    for number in range(2):
        studio.image(f"{image}/{number}.png", number)
        studio.write(f"{label}/{number}.txt", f"0 {fractions(number)}\n")


def converted(studio: Studio, label_format: str = "yolo", **options: object) -> tuple[dict, str]:
    """Return the names of the videos by split, and all messages."""
    reporter = Messages()
    splits = studio.prepare(label_format, reporter=reporter, **options)
    found = {}
    for split in splits:
        assert split.file is not None and split.problems == []
        videos = json.loads(split.file.read_text())["videos"]
        found[split.split] = sorted(video["name"] for video in videos)
    return found, reporter.text


LAYOUTS = {
    "images/SPLIT/VIDEO": "labels/SPLIT/VIDEO",
    "SPLIT/images/VIDEO": "SPLIT/labels/VIDEO",
    "SPLIT/VIDEO": "SPLIT/VIDEO",
    "my_set/images/SPLIT/VIDEO": "my_set/labels/SPLIT/VIDEO",
}


@pytest.mark.parametrize("image", LAYOUTS)
@pytest.mark.parametrize(
    "name", ["test", "Testing", "test-dev", "test2017", "holdout", "unlabeled"]
)
@pytest.mark.parametrize("others", [("train",), ("train", "val"), ("",)])
def test_folders(studio: Studio, image: str, name: str, others: tuple[str, ...]) -> None:
    studio.write("data.yaml", NAMES)
    for split, video in [(other, f"a{place}") for place, other in enumerate(others)] + [
        (name, "x")
    ]:
        paths = [
            path.replace("SPLIT/", f"{split}/" if split else "") for path in (image, LAYOUTS[image])
        ]
        yolo(studio, *(path.replace("VIDEO", video) for path in paths))
    output = studio.out if "val" in others else None
    found, text = converted(studio, output=output)
    assert [name.rpartition("/")[2] for names in found.values() for name in names] == [
        f"a{place}" for place in range(len(others))
    ]
    split = "unlabeled" if name == "unlabeled" else "test"
    assert f"{split}: 1 video left out (" in text


def test_a_video_file_may_be_called_test(studio: Studio) -> None:
    studio.write("classes.txt", "cat\n")
    for name in ("test", "train"):
        studio.video(f"{name}.mp4", 2)
        studio.write(f"labels/{name}/0.txt", f"0 {fractions(0)}\n")
    assert converted(studio)[0] == {"all": ["test", "train"]}


def test_only_test_data_is_an_error_unless_asked_for(studio: Studio) -> None:
    studio.write("data.yaml", NAMES)
    yolo(studio, "images/test/a", "labels/test/a")
    with pytest.raises(DataError, match="only test data here") as error:
        converted(studio)
    assert "--splits test" in str(error.value.hint)
    assert converted(studio, splits=["test"])[0] == {"test": ["a"]}
    yolo(studio, "images/train/b", "labels/train/b")
    with pytest.raises(ConfigError, match="unknown split 'best'"):
        converted(studio, splits=["best", "test"])


def test_test_images_without_labels_are_no_empty_frames(studio: Studio) -> None:
    studio.write("data.yaml", NAMES)
    yolo(studio, "images/train/a", "labels/train/a")
    for number in range(3):
        studio.image(f"images/test/{number}.png", number)
        studio.image(f"images/unlabeled/y/{number}.png", number)
    found, text = converted(studio)
    assert found == {"all": ["a"]}
    assert "test: 1 video left out (stills)" in text and "unlabeled: 1 video left out (y)" in text


@pytest.mark.parametrize(
    ("keys", "expected", "words"),
    [
        ("train: tr\ntest: te", {"all": ["a"]}, "test: 1 video left out (te/x)"),
        ("train: tr\ntest: te", {"all": ["a"]}, "neither: 1 video left out (va/b)"),
        ("train: tr\nval: va\ntest: te", {"train": ["a"], "val": ["b"]}, "test: 1 video"),
        ("train: tr\nval: te", {"train": ["a"], "val": ["x"]}, "neither: 1 video"),
        ("train: tr\nval: te\ntest: te", {"train": ["a"], "val": ["x"]}, "used as val only"),
        ("train: tr\nval: tr\ntest: te", {"all": ["a"]}, "val and train are the same (tr): not"),
        ("train: [tr, te]\nval: va\ntest: te", {"train": ["a"], "val": ["b"]}, "and in train: te"),
        ("train: [tr, va]\nval: va", {"train": ["a"], "val": ["b"]}, "used as val only"),
        ("train: .\nval: va\ntest: te", {"train": ["a"], "val": ["b"]}, "test: 1 video"),
        ("test: te", {"all": ["a", "b"]}, "test: 1 video"),
        ("train: tr\nval: va\ntest: ../test/images", {"train": ["a"], "val": ["b"]}, "neither: 1"),
        ("train: tr\nval: va\ntest:", {"train": ["a"], "val": ["b"]}, "neither: 1"),
        ("path: /content/d\ntrain: tr\nval: d\\va", {"train": ["a"], "val": ["b"]}, "read as va"),
        ("train: /content/d/tr\nval: C:\\d\\va", {"train": ["a"], "val": ["b"]}, "read as tr"),
        ("train: tr.txt\nval: va.txt", {"train": ["a"], "val": ["b"]}, "neither: 1"),
        ("train: tr.txt\ntest: te.txt", {"all": ["a"]}, "test: 1 video"),
    ],
)
def test_keys_of_data_yaml(studio: Studio, keys: str, expected: dict, words: str) -> None:
    studio.write("data.yaml", f"{keys}\n{NAMES}")
    for split, video in (("tr", "a"), ("va", "b"), ("te", "x")):
        yolo(studio, f"{split}/{video}", f"{split}/{video}")
        lines = [f"/elsewhere/set/{split}/{video}/{number}.png\n" for number in range(2)]
        studio.write(f"{split}.txt", "".join(lines))
    found, text = converted(studio, output=studio.out if "val" in expected else None)
    names = {split: [name.rpartition("/")[2] for name in found[split]] for split in found}
    assert names == expected and words in text


def test_test_videos_are_not_drawn_for_validation(studio: Studio) -> None:
    studio.write("data.yaml", f"train: images/train\ntest: images/test\n{NAMES}")
    for video in ("train/a", "train/b", "train/c", "test/x", "test/y"):
        yolo(studio, f"images/{video}", f"labels/{video}")
    found, text = converted(studio, output=studio.out, val_fraction=0.4, seed=0)
    assert sorted(found["train"] + found["val"]) == ["a", "b", "c"]
    assert len(found["val"]) == 1 and "test: 2 videos left out (x, y)" in text


def test_a_test_folder_inside_a_listed_one_is_held_out(studio: Studio) -> None:
    studio.write("data.yaml", f"train: images\n{NAMES}")
    yolo(studio, "images/a", "labels/a")
    yolo(studio, "images/test/x", "labels/test/x")
    assert converted(studio)[0] == {"all": ["a"]}


def test_a_list_of_missing_images_is_an_error(studio: Studio) -> None:
    studio.write("data.yaml", f"train: tr.txt\n{NAMES}")
    yolo(studio, "a", "a")
    studio.write("tr.txt", "b/1.png\n")
    with pytest.raises(DataError, match=r"tr\.txt:1: 'b/1\.png' does not exist"):
        converted(studio)
    studio.write("tr.txt", "a/0.png\nb/1.png\na/1.png\n")
    assert "(1 such images)" in converted(studio)[1]


@pytest.mark.parametrize("valid", ["", "valid = data/valid.txt\n"])
def test_lists_of_darknet(studio: Studio, valid: str) -> None:
    studio.write("obj.names", "cat\n")
    studio.write("obj.data", f"train = data/train.txt\n{valid}test=data/test.txt\n")
    for split, video in (("train", "a"), ("valid", "b"), ("test", "x")):
        yolo(studio, f"obj/{video}", f"obj/{video}")
        studio.write(f"{split}.txt", f"data/obj/{video}/0.png\ndata/obj/{video}/1.png\n")
    found, text = converted(studio, output=studio.out if valid else None)
    expected = {"train": ["obj/a"], "val": ["obj/b"]} if valid else {"all": ["obj/a"]}
    assert found == expected and "test: 1 video left out (obj/x)" in text


def voc(studio: Studio, video: str) -> None:
    left, top, right, bottom = box_of(0)
    studio.image(f"JPEGImages/{video}/0.jpg", 0)
    studio.write(
        f"Annotations/{video}/0.xml",
        "<annotation><size><width>96</width><height>64</height></size><object><name>cat</name>"
        f"<bndbox><xmin>{left}</xmin><ymin>{top}</ymin><xmax>{right}</xmax><ymax>{bottom}</ymax>"
        "</bndbox></object></annotation>",
    )


@pytest.mark.parametrize(
    ("lists", "expected"),
    [
        ({"train": "a/0", "test": "x/0"}, {"all": ["a"]}),
        ({"train": "a/0", "val": "b", "test": "x/0"}, {"train": ["a"], "val": ["b"]}),
        ({"trainval": "a/0.jpg\nb/0", "test": "x"}, {"all": ["a", "b"]}),
        (
            {"trainval": "a/0\nb/0", "train": "a/0 1", "val": "b/0 -1"},
            {"train": ["a"], "val": ["b"]},
        ),
        ({"test": "x/0"}, {"all": ["a", "b"]}),
    ],
)
def test_lists_of_pascal_voc(studio: Studio, lists: dict[str, str], expected: dict) -> None:
    for video in "abx":
        voc(studio, video)
    for split, text in lists.items():
        studio.write(f"ImageSets/Main/{split}.txt", f"{text}\n")
    studio.write("ImageSets/Main/cat_train.txt", "x/0 1\n")
    found, text = converted(studio, "voc", output=studio.out if "val" in expected else None)
    assert found == expected and "(x)" in text


def mot(studio: Studio, folder: str) -> None:
    left, top, right, bottom = box_of(0)
    studio.image(f"{folder}/img1/000001.jpg", 0)
    box = f"{left + 1},{top + 1},{right - left},{bottom - top}"
    studio.write(f"{folder}/gt/gt.txt", f"1,1,{box},1,1,1\n")


@pytest.mark.parametrize(
    ("folders", "expected"),
    [
        (["train/a", "test/x"], {"all": ["a"]}),
        (["train/a", "val/b", "test/x"], {"train": ["a"], "val": ["b"]}),
        (["train/a", "val/b", "x"], {"train": ["a"], "val": ["b"]}),
        (["a", "test/x"], {"all": ["a"]}),
        (["a", "set-train/b", "set-test-dev/x"], {"all": ["a", "b"]}),
    ],
)
def test_folders_of_mot_sequences(studio: Studio, folders: list[str], expected: dict) -> None:
    for folder in folders:
        mot(studio, folder)
    found, text = converted(studio, "mot", output=studio.out if "val" in expected else None)
    assert found == expected and "1 video left out (x)" in text


def cvat(studio: Studio, path: str, video: str, subset: str = "") -> None:
    left, top, right, bottom = box_of(0)
    if not (studio.root / f"{video}.mp4").exists():
        studio.video(f"{video}.mp4", 1)
    studio.write(
        path,
        f"<annotations><meta><task><id>1</id><size>1</size><subset>{subset}</subset>"
        f"<source>{video}.mp4</source><labels><label><name>cat</name></label></labels></task></meta>"
        f'<track id="0" label="cat"><box frame="0" outside="0" xtl="{left}" ytl="{top}" '
        f'xbr="{right}" ybr="{bottom}"></box></track></annotations>',
    )


@pytest.mark.parametrize(
    "paths",
    [
        {"1.xml": ("a", "Train"), "2.xml": ("x", "Test")},
        {"train/1.xml": ("a", ""), "test/1.xml": ("x", "")},
        {"train.xml": ("a", ""), "test.xml": ("x", "")},
    ],
)
def test_subsets_and_folders_of_cvat(studio: Studio, paths: dict) -> None:
    for path, (video, subset) in paths.items():
        cvat(studio, path, video, subset)
    found, text = converted(studio, "cvat")
    assert found == {"all": ["a"]} and "test: 1 video left out (x)" in text
    cvat(studio, "val/1.xml" if "train/1.xml" in paths else "val.xml", "b", "Validation")
    found, text = converted(studio, "cvat", output=studio.out)
    assert found == {"train": ["a"], "val": ["b"]} and "test: 1 video left out (x)" in text


@pytest.mark.parametrize(
    "files",
    [
        ["instances_train2017.json", "instances_test2017.json"],
        ["annotations/train.json", "annotations/test-dev.json"],
        ["train/_annotations.coco.json", "test/_annotations.coco.json"],
    ],
)
def test_files_of_coco(studio: Studio, files: list[str]) -> None:
    left, top, right, bottom = box_of(0)
    for file, video in zip(files, "ax", strict=True):
        studio.image(f"images/{video}/0.jpg", 0)
        box = [left, top, right - left, bottom - top]
        content = {
            "images": [{"id": 1, "file_name": f"images/{video}/0.jpg", "width": 96, "height": 64}],
            "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": box}],
            "categories": [{"id": 1, "name": "cat"}],
        }
        studio.write(file, json.dumps(content))
    found, text = converted(studio, "coco")
    assert found == {"all": ["images/a"]} and files[1].rpartition("/")[2] in text
    (studio.root / files[0]).unlink()
    with pytest.raises(DataError, match="only test or unlabeled data here"):
        converted(studio, "coco")


def test_names_of_splits() -> None:
    assert split_named("VisDrone2019-MOT-test-dev") == split_named("obj_Test_data") == "test"
    assert split_named("val2017") == split_named("Validation") == "val"
    assert split_named("contest") is split_named("testcase") is split_named("trainyard") is None
    assert split_in_words("person_keypoints_val2017") == "val"
    assert split_in_words("train_test") is split_in_words("contest") is None
