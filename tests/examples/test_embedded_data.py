"""Scripts that prepare the data of the bundled model: smaller frames, and a union of sets."""

from __future__ import annotations

import json
import runpy
import sys
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from sparsevod_core.data.frames import FrameReader
from sparsevod_core.data.records import VideoSet

SCRIPTS = Path(__file__).parents[2] / "examples" / "embedded"


@pytest.fixture
def run(monkeypatch):
    def run_script(name: str, *arguments: object) -> None:
        monkeypatch.setattr(sys, "argv", [name, *map(str, arguments)])
        runpy.run_path(str(SCRIPTS / name), run_name="__main__")

    return run_script


def test_shrunk_frames_and_boxes_match_the_videos(video_set, tmp_path, run):
    run("shrink.py", video_set.annotations, "-o", tmp_path, "--short-side", "32")
    before, after = (
        VideoSet.load(file) for file in (video_set.annotations, tmp_path / "annotations.json")
    )
    assert after.num_frames == before.num_frames == 32
    with closing(FrameReader(after)) as reader:
        for frame in range(after.num_frames):
            assert after.image_id(frame) == before.image_id(frame)
            height, width = before.frame_size(frame)
            small = reader.read(frame)
            assert small.shape[:2] == after.frame_size(frame)
            assert min(small.shape[:2]) == 32
            ratio = np.tile([small.shape[1] / width, small.shape[0] / height], 2)
            expected = before.boxes(frame).boxes_xyxy * ratio
            np.testing.assert_allclose(after.boxes(frame).boxes_xyxy, expected, atol=0.02)
            for box in after.boxes(frame).boxes_xyxy.astype(int):  # the objects are bright
                inside = small[box[1] + 1 : box[3] - 1, box[0] + 1 : box[2] - 1]
                assert inside.max(-1).mean() > 150
    run("shrink.py", video_set.annotations, "-o", tmp_path / "few", "--every", "5")
    few = VideoSet.load(tmp_path / "few" / "annotations.json")
    assert few.tables.frame_ids.tolist() == [n for n in before.tables.frame_ids if n % 5 == 0]
    assert len(list((tmp_path / "few").rglob("*.jpg"))) == few.num_frames
    again = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.jpg")}
    run("shrink.py", video_set.annotations, "-o", tmp_path, "--short-side", "32")
    assert again == {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.jpg")}


def test_what_cannot_be_shrunk_is_refused(video_set, image_set, tmp_path, run, monkeypatch):
    out = tmp_path / "out"
    with pytest.raises(SystemExit, match="has still images, expected videos only"):
        run("shrink.py", image_set.annotations, "-o", out)
    run("shrink.py", video_set.annotations, "-o", out, "--every", "5")
    with pytest.raises(SystemExit, match=r"has other frames of .*: remove it"):
        run("shrink.py", video_set.annotations, "-o", out)
    monkeypatch.setattr("cv2.imwrite", lambda *_: False)  # as on a full disk
    with pytest.raises(SystemExit, match=r"000000\.jpg: cannot be written"):
        run("shrink.py", video_set.annotations, "-o", tmp_path / "full")
    assert not list((tmp_path / "full").rglob("*.json"))


def test_a_root_elsewhere_is_not_that_of_the_frames(video_set, tmp_path, run):
    content = json.loads(video_set.annotations.read_text())
    content["info"] = {"root": str(video_set.annotations.parent)}
    (tmp_path / "elsewhere.json").write_text(json.dumps(content))
    run("shrink.py", tmp_path / "elsewhere.json", "-o", tmp_path / "out", "--every", "100")
    small = VideoSet.load(tmp_path / "out" / "elsewhere.json")
    with closing(FrameReader(small)) as reader:
        assert reader.read(0).shape[:2] == small.frame_size(0)


def test_a_union_has_all_videos_and_each_class_once(image_set, tmp_path, run):
    other = tmp_path / "other"
    (other / "clip").mkdir(parents=True)
    image = {"id": 100 * 10, "video_id": 10, "frame_id": 3, "width": 8, "height": 6}
    box = {"id": 0, "image_id": 1000, "video_id": 10, "bbox": [1, 1, 2, 2]}
    content = {
        "videos": [{"id": 10, "name": "clip"}],
        "images": [{**image, "file_name": "clip/3.png"}],
        "annotations": [{**box, "category_id": 1}, {**box, "id": 1, "category_id": 2}],
        "categories": [{"id": 1, "name": "bird"}, {"id": 2, "name": "bar"}],
    }
    (other / "set.json").write_text(json.dumps(content))
    files = image_set.annotations, other / "set.json"
    run("union.py", *files, "--every", 2, 1, "-o", tmp_path / "both" / "all.json")

    before, both = VideoSet.load(image_set.annotations), VideoSet.load(tmp_path / "both/all.json")
    first = both.video_frames(0)
    assert both.tables.is_target[first].tolist() == [n % 2 == 0 for n in range(len(first))]
    assert [category.name for category in both.categories] == ["square", "bar", "bird"]
    assert both.num_frames == before.num_frames + 1
    assert both.num_videos == before.num_videos + 1  # among them a still image
    paths = {both.frame_path(frame)[0]: frame for frame in range(both.num_frames)}
    for frame in range(before.num_frames):
        there = paths.pop(before.frame_path(frame)[0])
        for field in ("boxes_xyxy", "labels", "instance_ids"):
            ours, theirs = (getattr(of, field) for of in (both.boxes(there), before.boxes(frame)))
            np.testing.assert_array_equal(ours, theirs)
    ((path, frame),) = paths.items()
    assert path == other / "clip" / "3.png"
    assert [both.categories[label].name for label in both.boxes(frame).labels] == ["bird", "bar"]
