"""Training videos set aside to select checkpoints."""

from __future__ import annotations

import json

import pytest

from sparsevod_core.data.records import VideoSet
from sparsevod_core.errors import DataError
from sparsevod_core.reporting import SilentReporter
from sparsevod_core.reproduce.hold_out import held_out, hold_out


def test_videos_are_set_aside_by_their_names(image_set, tmp_path):
    names = [f"video-{number}" for number in range(20)]
    aside = held_out(names, 0.1)
    assert len(aside) == 2 and held_out(names[::-1], 0.1) == aside
    assert held_out(names, 0) < held_out(names, 1) < set(names)

    hold_out(image_set.annotations, tmp_path, 0.1, SilentReporter())
    before = VideoSet.load(image_set.annotations)
    train, choose = (VideoSet.load(tmp_path / f"{name}.json") for name in ("train", "choose"))
    assert choose.num_videos == 1 and train.num_videos == before.num_videos - 1
    assert train.root == choose.root == before.root
    ids = [[one.image_id(frame) for frame in range(one.num_frames)] for one in (train, choose)]
    every = [before.image_id(frame) for frame in range(before.num_frames)]
    assert sorted(ids[0] + ids[1]) == sorted(every) and 900 in ids[0]  # a still image


def test_videos_need_no_names_and_the_set_no_root(image_set, tmp_path):
    content = json.loads(image_set.annotations.read_text())
    for video in content["videos"]:
        del video["name"]
    for info in (None, {"root": None}, "a remark"):
        file = tmp_path / "set" / "annotations.json"
        file.parent.mkdir(exist_ok=True)
        file.write_text(json.dumps(content | {"info": info}))
        hold_out(file, tmp_path / "out", 0.1, SilentReporter())
        assert VideoSet.load(tmp_path / "out" / "choose.json").root == file.parent


def test_a_single_video_cannot_be_split(image_set, tmp_path):
    content = json.loads(image_set.annotations.read_text())
    del content["videos"][1:]
    kept = content["videos"][0]["id"]
    content["images"] = [one for one in content["images"] if one.get("video_id") == kept]
    ids = {image["id"] for image in content["images"]}
    content["annotations"] = [box for box in content["annotations"] if box["image_id"] in ids]
    file = tmp_path / "one.json"
    file.write_text(json.dumps(content))
    with pytest.raises(DataError, match=r"one\.json: expected at least 2 videos to split, found 1"):
        hold_out(file, tmp_path / "out", 0.1, SilentReporter())
    assert not (tmp_path / "out").exists()
    content["images"][0]["file_name"] = 7
    file.write_text(json.dumps(content))
    with pytest.raises(DataError, match=r"one\.json: images\[0\]"):
        hold_out(file, tmp_path / "out", 0.1, SilentReporter())


def test_a_broken_file_is_named(tmp_path):
    (tmp_path / "train.json").write_text("{")
    with pytest.raises(DataError, match=r"train\.json: not valid JSON"):
        hold_out(tmp_path / "train.json", tmp_path / "out", 0.1, SilentReporter())
