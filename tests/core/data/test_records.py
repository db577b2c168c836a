"""`VideoSet`: order of videos and frames, ids of any kind, and errors that name the entry."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sparsevod_core.data.records import VideoSet
from sparsevod_core.errors import DataError
from sparsevod_core.evaluation.metrics.ground_truth import GroundTruth


def content(**changes: Any) -> dict[str, Any]:
    """Two videos, one of them an MP4, and a still; ids with gaps, out of order, 0 and negative."""
    sections: dict[str, Any] = {
        "annotations": [
            {"id": 5, "image_id": 0, "category_id": 12, "bbox": [1, 2, 3, 4], "instance_id": 0},
            {"id": 0, "image_id": 40, "category_id": 0, "bbox": [0.5, 0, 9, 0], "iscrowd": 1},
            {"id": 9, "image_id": 0, "category_id": 0, "bbox": [-5, 6, 7.25, 8]},
        ],
        "videos": [
            {"id": 8, "name": "unused"},
            {"id": 3, "name": "film", "file_name": "films/a.MP4", "width": 64, "height": 48},
            {"id": 0, "name": "walk", "file_name": "walk"},
        ],
        "images": [
            {"id": 7, "file_name": "still.jpg", "width": 10, "height": 20},
            {"id": 0, "video_id": 0, "frame_id": 30, "file_name": "walk/äöü.jpg"},
            {"id": -2, "video_id": 3, "frame_id": 11, "file_name": "ignored.jpg"},
            {"id": 40, "video_id": 0, "frame_id": 4, "file_name": "walk/04.jpg"},
            {"id": 41, "video_id": 3, "frame_id": 2, "file_name": "ignored.jpg"},
        ],
        "categories": [{"id": 12, "name": "cat"}, {"id": 0, "name": "dog"}],
    }
    for image in sections["images"]:
        if image.get("video_id") == 0:
            image |= {"width": 30, "height": 40, "is_vid_train_frame": image["id"] == 40}
    return sections | changes


def write(folder: Path, sections: dict[str, Any]) -> Path:
    path = folder / "set.json"
    path.write_text(json.dumps(sections))
    return path


@pytest.fixture
def videos(tmp_path: Path) -> VideoSet:
    return VideoSet.load(write(tmp_path, content()))


def test_videos_and_frames_are_in_order(videos: VideoSet, tmp_path: Path) -> None:
    assert [videos.video_name(video) for video in range(videos.num_videos)] == [
        "film",
        "walk",
        "still.jpg",
    ]
    assert [list(videos.video_frames(video)) for video in range(3)] == [[0, 1], [2, 3], [4]]
    assert [videos.image_id(frame) for frame in range(videos.num_frames)] == [41, -2, 40, 0, 7]
    assert [videos.video_of(frame) for frame in range(5)] == [0, 0, 1, 1, 2]
    assert [videos.frame_size(frame) for frame in (0, 2, 4)] == [(48, 64), (40, 30), (20, 10)]
    assert videos.tables.is_target.tolist() == [True, True, True, False, True]
    assert videos.target_frames().tolist() == [0, 1, 2, 4]
    assert [videos.frame_path(frame) for frame in range(5)] == [
        (tmp_path / "films/a.MP4", 2),
        (tmp_path / "films/a.MP4", 11),
        (tmp_path / "walk/04.jpg", None),
        (tmp_path / "walk/äöü.jpg", None),
        (tmp_path / "still.jpg", None),
    ]
    assert videos.frame_name(1) == f"{tmp_path}/films/a.MP4 frame 11"


def test_boxes_go_to_their_frames(videos: VideoSet) -> None:
    assert [category.id for category in videos.categories] == [12, 0]
    boxes = videos.boxes(3)
    assert boxes.boxes_xyxy.tolist() == [[1, 2, 4, 6], [-5, 6, 2.25, 14]]
    assert boxes.labels.tolist() == [0, 1]
    assert boxes.instance_ids.tolist() == [0, -1]
    assert boxes.is_crowd.tolist() == [False, False]
    assert videos.boxes(2).boxes_xyxy.tolist() == [[0.5, 0, 9.5, 0]]
    assert videos.boxes(2).is_crowd.tolist() == [True]
    assert [len(videos.boxes(frame)) for frame in range(5)] == [0, 0, 1, 2, 0]
    assert videos.boxes(0).boxes_xyxy.shape == (0, 4)
    with pytest.raises(ValueError, match="read-only"):
        boxes.boxes_xyxy[0] = 0


@pytest.mark.parametrize(
    ("flags", "is_crowd"),
    [
        ({"iscrowd": "0", "ignore": "0"}, False),
        ({"iscrowd": "false"}, False),
        ({"iscrowd": "No "}, False),
        ({"iscrowd": None, "ignore": 0.0}, False),
        ({"iscrowd": True}, True),
        ({"iscrowd": "1.0"}, True),
        ({"iscrowd": 0, "ignore": 1}, True),
        ({"ignore": "yes"}, True),
    ],
)
def test_crowds_and_boxes_to_ignore(tmp_path: Path, flags: dict[str, Any], is_crowd: bool) -> None:
    path = write(tmp_path, content(annotations=box(**flags)))
    assert VideoSet.load(path).boxes(4).is_crowd.tolist() == [is_crowd]
    assert GroundTruth.load(path).is_crowd.tolist() == [is_crowd]


def test_flags_of_frames_as_words(tmp_path: Path) -> None:
    sections = content()
    for entry, word in zip(sections["images"], ["no", "0", "TRUE", 1.0, None], strict=True):
        entry["is_vid_train_frame"] = word
    videos = VideoSet.load(write(tmp_path, sections))
    assert [videos.image_id(frame) for frame in videos.target_frames()] == [41, -2, 40]


def test_no_object_is_kept_for_each_frame(tmp_path: Path) -> None:
    def loaded(num_frames: int) -> bytes:
        size, folder = {"width": 9, "height": 9}, "one/folder/for/all/of/them"
        images = [
            {"id": i, "video_id": 1, "frame_id": i, "file_name": f"{folder}/{i:08}", **size}
            for i in range(num_frames)
        ]
        annotations = [
            {"id": i, "image_id": i, "category_id": 0, "bbox": [0, 0, 1, 1]}
            for i in range(num_frames)
        ]
        sections = content(
            images=images, annotations=annotations, videos=[{"id": 1, "name": "one"}]
        )
        return pickle.dumps(VideoSet.load(write(tmp_path, sections)))

    # 8 bytes of name, 4 for its folder; 8 for each of id, frame id, size, box start, label and
    # instance; 16 for each of box and span of the name; 1 for each of target and crowd.
    per_frame = (len(loaded(3000)) - len(loaded(1000))) / 2000
    assert per_frame == pytest.approx(8 + 4 + 6 * 8 + 2 * 16 + 2, abs=0.1)


def test_root_is_argument_then_info_then_folder(tmp_path: Path) -> None:
    annotations = tmp_path / "sub" / "set.json"
    annotations.parent.mkdir()

    def root(info: Any, argument: Path | None = None) -> Path:
        annotations.write_text(json.dumps(content(info=info)))
        return VideoSet.load(annotations, argument).root

    assert root({"year": 2015}) == tmp_path / "sub"
    assert root({"root": None}) == tmp_path / "sub"
    assert root({"root": "../frames"}) == tmp_path / "frames"
    assert root({"root": "/data/vid"}) == Path("/data/vid")
    assert root({"root": "/data/vid"}, tmp_path / "else") == tmp_path / "else"


def test_a_relative_root_survives_a_change_of_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, content())
    monkeypatch.chdir(tmp_path)
    videos = VideoSet.load(Path("set.json"))
    monkeypatch.chdir("/")
    assert videos.frame_path(4) == (tmp_path / "still.jpg", None)


@pytest.mark.parametrize(
    ("name", "inside"),
    [
        ("../outside.jpg", False),
        ("a/../../outside.jpg", False),
        ("/etc/passwd", False),
        ("..", False),
        ("a/../b.jpg", True),
        ("..hidden/b..jpg", True),
    ],
)
@pytest.mark.parametrize("kind", ["image", "video"])
def test_no_name_leaves_the_root(tmp_path: Path, name: str, inside: bool, kind: str) -> None:
    sections = content()
    if kind == "image":
        sections["images"][3]["file_name"] = name
    else:
        sections["videos"][1]["file_name"] = name + ".mp4"
        inside = inside or name == ".."  # `...mp4` is a file
    path = write(tmp_path, sections)
    if inside:
        assert VideoSet.load(path).num_frames == 5
    else:
        with pytest.raises(DataError, match=r"image id 4[01]: file name .* leaves the root"):
            VideoSet.load(path)


def test_an_absolute_name_below_the_root_is_inside(tmp_path: Path) -> None:
    sections = content()
    sections["images"][3]["file_name"] = str(tmp_path / "walk" / "x.jpg")
    assert VideoSet.load(write(tmp_path, sections)).frame_path(2)[0] == tmp_path / "walk/x.jpg"


def test_the_normalized_path_is_opened_despite_links(tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    (tmp_path / "other" / "deep").mkdir(parents=True)
    (tmp_path / "root" / "link").symlink_to(tmp_path / "other" / "deep")
    sections = content()
    sections["images"][3]["file_name"] = "link/../x.jpg"  # the system would open other/x.jpg
    videos = VideoSet.load(write(tmp_path / "root", sections))
    assert videos.frame_path(2)[0] == tmp_path / "root" / "x.jpg"


def image(**fields: Any) -> list[dict[str, Any]]:
    return [*content()["images"], {"id": 99, "file_name": "x", "width": 1, "height": 1, **fields}]


def box(**fields: Any) -> list[dict[str, Any]]:
    return [{"id": 1, "image_id": 7, "category_id": 0, "bbox": [0, 0, 1, 1], **fields}]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"images": []}, "'images' is empty"),
        ({"categories": []}, "'categories' is empty"),
        ({"images": image(id="a")}, "images[5] (id a): id: expected a whole number, got 'a'"),
        ({"images": image(id=2**63)}, "images[5] (id 9223372036854775808): id: expected a whole"),
        ({"images": image(id=True)}, "id: expected a whole number, got True"),
        ({"images": [[]]}, "images[0]: expected an object, got a list"),
        ({"images": [{}]}, "images[0]: `id` is missing"),
        ({"images": image(file_name=None)}, "(id 99): file_name: expected text, got None"),
        ({"images": image(file_name="a\0b")}, "(id 99): file_name: expected text"),
        ({"images": image(file_name="\ud800")}, "(id 99): file_name: expected text"),
        ({"images": image(width=0)}, "(id 99): width: expected a size in pixels, got 0"),
        ({"images": image(width=None)}, "images[5] (id 99): `height` and `width` are missing"),
        ({"images": image(video_id=3)}, "(id 99): `frame_id` is missing"),
        ({"images": image(video_id=4, frame_id=0)}, "images[5] (id 99): video_id 4 is not in 'vid"),
        (
            {"images": image(video_id=3, frame_id=11)},
            "images[5] (id 99): has the video_id 3 and the frame_id 11 of images[2]",
        ),
        ({"images": image(video_id=3, frame_id=-1)}, "(id 99): frame_id: expected an index in"),
        ({"images": image(id=40)}, "images[5] (id 40): has the id of images[3]"),
        (
            {"videos": [{"id": 3}, {"id": 0}, {"id": 3}]},
            "videos[2] (id 3): has the id of videos[0",
        ),
        (
            {"categories": [{"id": 1, "name": "a"}] * 2},
            "categories[1] (id 1): has the id of categories[0]",
        ),
        ({"categories": [{"id": 1}]}, "categories[0] (id 1): `name` is missing"),
        (
            {"categories": [{"id": 1, "name": "a"}, {"id": 2, "name": "a"}], "annotations": []},
            "categories[1] (id 2): has the name 'a' of categories[0]",
        ),
        ({"annotations": box() * 2}, "annotations[1] (id 1): has the id of annotations[0]"),
        ({"annotations": box(image_id=8)}, "annotations[0] (id 1): image_id 8 is not in 'images'"),
        ({"annotations": box(category_id=1)}, "annotations[0] (id 1): category_id 1 is not in 'ca"),
        (
            {"annotations": box(bbox=[0, 0, -1, 1])},
            "annotations[0] (id 1): bbox: expected four fin",
        ),
        ({"annotations": box(bbox=[0, 0, float("nan"), 1])}, "annotations[0] (id 1): bbox: expec"),
        (
            {"annotations": box(bbox=[1e39, 0, 1, 1])},
            "annotations[0] (id 1): bbox: expected four fin",
        ),
        ({"annotations": box(bbox=[10**400, 0, 1, 1])}, "annotations[0] (id 1): bbox: expected"),
        ({"annotations": box(bbox=[0, 0, 1])}, "annotations[0] (id 1): bbox: expected four numb"),
        ({"annotations": box(bbox="0011")}, "annotations[0] (id 1): bbox: expected four numbers"),
        ({"annotations": box(bbox=None)}, "annotations[0] (id 1): bbox: expected four numbers"),
        ({"annotations": box(iscrowd="2")}, "annotations[0] (id 1): iscrowd: expected 0, 1, tru"),
        ({"annotations": box(ignore=[0])}, "annotations[0] (id 1): ignore: expected 0, 1, true"),
        ({"images": image(is_vid_train_frame="")}, "(id 99): is_vid_train_frame: expected 0, 1"),
    ],
)
def test_a_broken_entry_is_named(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    path = write(tmp_path, content(**changes))
    with pytest.raises(DataError) as caught:
        VideoSet.load(path)
    assert caught.value.message.startswith(str(path))
    assert message in caught.value.message
    assert "\n" not in caught.value.message


def test_a_section_that_is_missing_is_named(tmp_path: Path) -> None:
    sections = content()
    del sections["annotations"]
    with pytest.raises(DataError, match="no 'annotations': expected a COCO file"):
        VideoSet.load(write(tmp_path, sections))


def test_ground_truth_needs_no_second_read(tmp_path: Path) -> None:
    path = write(tmp_path, content())
    expected = GroundTruth.load(path)
    videos = VideoSet.load(path, for_scoring=True)
    path.unlink()
    truth = GroundTruth.of_videos(videos)
    assert list(truth.file_names) == list(expected.file_names)
    for name in set(GroundTruth.__slots__) - {"file_names"}:
        np.testing.assert_array_equal(getattr(truth, name), getattr(expected, name))


def test_stills_only_need_no_videos(tmp_path: Path) -> None:
    images = [{"id": i, "file_name": f"{i}.jpg", "width": 8, "height": 9} for i in (5, 3)]
    sections = content(images=images, annotations=[])
    del sections["videos"]
    videos = VideoSet.load(write(tmp_path, sections))
    assert [videos.video_name(video) for video in range(2)] == ["5.jpg", "3.jpg"]
    assert [list(videos.video_frames(video)) for video in range(2)] == [[0], [1]]


def test_info_may_be_null_or_anything_else(tmp_path: Path) -> None:
    for info in (None, "made by hand", [], {}):
        assert VideoSet.load(write(tmp_path, content(info=info))).root == tmp_path


def test_whole_numbers_written_as_floats(tmp_path: Path) -> None:
    sections = content(annotations=box(image_id=7.0, category_id=12.0))
    boxes = VideoSet.load(write(tmp_path, sections)).boxes(4)
    assert boxes.labels.tolist() == [0]


def test_a_frame_takes_little_memory(tmp_path: Path) -> None:
    """ImageNet VID has 1.1 million frames, so 130 bytes for each take 0.14 GB."""
    num_frames, length = 2900, 290
    images, annotations = [], []
    for frame in range(num_frames):
        video, number = divmod(frame, length)
        folder = f"Data/VID/train/ILSVRC2015_VID_train_0000/ILSVRC2015_train_{video:08d}"
        name = f"{folder}/{number:06d}.JPEG"
        of_frame = {"width": 1280, "height": 720, "is_vid_train_frame": False}
        images.append(
            {"id": frame, "video_id": video, "frame_id": number, "file_name": name, **of_frame}
        )
        for track in range(1 + frame % 2):
            box = {"category_id": 12, "bbox": [1, 2, 3, 4], "instance_id": track}
            annotations.append({"id": len(annotations), "image_id": frame, **box})
    videos = [{"id": video, "name": str(video)} for video in range(num_frames // length)]
    sections = content(images=images, annotations=annotations, videos=videos)
    loaded = VideoSet.load(write(tmp_path, sections))
    assert len(pickle.dumps(loaded)) / num_frames < 130


def test_real_drone_videos(shared_dir: Path) -> None:
    annotations = shared_dir / "data" / "drones" / "val.json"
    videos = VideoSet.load(annotations)
    source = json.loads(annotations.read_text())
    assert (videos.num_videos, videos.num_frames) == (28, 8791)
    frame_of = {videos.image_id(frame): frame for frame in range(videos.num_frames)}
    per_frame: dict[int, list[list[float]]] = {frame: [] for frame in frame_of.values()}
    for annotation in source["annotations"]:
        x, y, w, h = annotation["bbox"]
        per_frame[frame_of[annotation["image_id"]]].append([x, y, x + w, y + h])
    for frame, expected in per_frame.items():
        got = videos.boxes(frame).boxes_xyxy
        np.testing.assert_array_equal(got, np.array(expected, np.float32).reshape(-1, 4))
