"""The rendered set: objects are read back as drawn, and degradations are as documented."""

from __future__ import annotations

import hashlib
import json
from collections import Counter, defaultdict
from contextlib import closing
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sparsevod_core.data.frames import FrameReader
from sparsevod_core.data.records import VideoSet
from sparsevod_core.errors import ConfigError, DataError
from sparsevod_core.prepare.degradations import (
    BURST_FRAMES,
    CLEAR_FRAMES,
    KINDS,
    schedule_bursts,
)
from sparsevod_core.prepare.synthetic import render as synthetic
from sparsevod_core.prepare.synthetic.classes import OBJECT_CLASSES
from sparsevod_core.prepare.synthetic.render import SyntheticConfig, prepare_synthetic
from sparsevod_core.prepare.synthetic.scene import Scene
from sparsevod_core.video.reader import VideoReader

SMALL = SyntheticConfig(
    train_videos=3, val_videos=2, frames=16, val_frames=16, width=160, height=120
)


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("synthetic") / "set"
    prepare_synthetic(folder, SMALL)
    return folder


def content(folder: Path, split: str) -> dict[str, Any]:
    return dict(json.loads((folder / f"{split}.json").read_text()))


def scene(seed: int, **options: Any) -> Scene:
    settings = {"num_frames": 16, "height": 120, "width": 160, "degraded_share": 0.35} | options
    return Scene((seed, 0, 1), list(OBJECT_CLASSES)[:4], **settings)


def digests(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_the_layout_is_the_official_one(rendered: Path) -> None:
    assert sorted(path.name for path in rendered.iterdir()) == [
        "Annotations", "Data", "ImageSets", "degradations.json", "devkit", "preview.mp4",
        "synthetic.json", "train.json", "val.json",
    ]  # fmt: skip
    snippet = "VID/train/synthetic_VID_train_0000/synthetic_train_00000002"
    assert (rendered / "Data" / snippet / "000015.JPEG").is_file()
    assert (rendered / "Annotations" / snippet / "000015.xml").is_file()
    lists = rendered / "ImageSets" / "VID"
    assert len((lists / "VID_train_15frames.txt").read_text().splitlines()) == 3 * 15
    assert (lists / "VID_val_videos.txt").read_text().splitlines()[1] == (
        "val/synthetic_val_00000001 17 0 16"
    )
    assert content(rendered, "train")["info"]["root"] == "."
    assert content(rendered, "val")["info"]["synthetic"]["seed"] == 0


def test_objects_drawn_are_boxes_read_back(rendered: Path) -> None:
    """Compare boxes and pixels read through XML, JSON and VideoSet with the scene."""
    videos = VideoSet.load(rendered / "val.json")
    assert [category.name for category in videos.categories] == list(OBJECT_CLASSES)
    with closing(FrameReader(videos)) as reader:
        for video in range(videos.num_videos):
            drawn = synthetic._scene(
                SMALL, "val", video, synthetic._deal_classes(SMALL, "val")[video]
            )
            for index, frame in enumerate(videos.video_frames(video)):
                expected = drawn.frame(index)
                boxes = videos.boxes(frame)
                assert boxes.boxes_xyxy.tolist() == [list(o.box_xyxy) for o in expected.objects]
                names = [videos.categories[label].name for label in boxes.labels]
                assert names == [o.class_name for o in expected.objects]
                # The pixels agree except for noise and JPEG compression.
                if not expected.degradation:
                    error = np.abs(reader.read(frame).astype(int) - expected.image).mean()
                    assert error < 6


def test_degradations_come_in_bursts_and_spare_most_frames(rendered: Path) -> None:
    for split in ("train", "val"):
        by_video: dict[int, list[dict[str, float]]] = defaultdict(list)
        for image in content(rendered, split)["images"]:
            by_video[image["video_id"]].append(image["degradation"])
        for frames in by_video.values():
            assert 0 < sum(map(bool, frames)) <= 0.4 * len(frames)
            for kinds in frames:
                assert kinds.keys() <= set(KINDS)
                assert all(0 < severity <= 1 for severity in kinds.values())


def test_every_object_is_seen_undegraded(rendered: Path) -> None:
    for split in ("train", "val"):
        coco = content(rendered, split)
        clean = {image["id"] for image in coco["images"] if not image["degradation"]}
        clear: dict[int, int] = defaultdict(int)
        for annotation in coco["annotations"]:
            clear[annotation["instance_id"]] += (
                annotation["image_id"] in clean and not annotation["occluded"]
            )
        assert clear and min(clear.values()) >= CLEAR_FRAMES * SMALL.frames


@pytest.mark.parametrize("num_frames", [1, 2, 5, 16, 24, 100])
def test_bursts_are_short_apart_and_within_their_share(num_frames: int) -> None:
    for seed in range(30):
        bursts = schedule_bursts(np.random.default_rng(seed), num_frames, 0.4)
        hit = [f for f in range(num_frames) if any(burst.severity(f) for burst in bursts)]
        assert len(hit) == sum(len(burst.severities) for burst in bursts) <= 0.4 * num_frames
        assert all(len(burst.severities) <= BURST_FRAMES[1] for burst in bursts)
        ends = [burst.start + len(burst.severities) for burst in bursts]
        assert all(later.start >= end + 2 for end, later in zip(ends, bursts[1:], strict=False))
    assert schedule_bursts(np.random.default_rng(0), num_frames, 0.0) == []


@pytest.mark.parametrize("kind", KINDS)
def test_a_degraded_frame_differs_from_the_same_frame_undegraded(kind: str) -> None:
    for seed in range(40):
        degraded = scene(seed)
        frames = [degraded.frame(index) for index in range(16)]
        hit = [index for index, frame in enumerate(frames) if kind in frame.degradation]
        if hit:
            break
    degraded._bursts.clear()
    for index in hit:
        clean = degraded.frame(index)
        change = np.abs(frames[index].image.astype(int) - clean.image).mean()
        assert change > 5
        if kind == "occlusion":
            seen = {item.track: item.occluded for item in frames[index].objects}
            whole = {item.track: item.occluded for item in clean.objects}
            assert seen.keys() <= whole.keys()
            hidden = [track for track in whole if seen.get(track, True)]
            assert len(hidden) >= len(whole) / 2 > sum(whole.values())


def test_a_box_is_the_visible_extent() -> None:
    """Check that removing an object changes pixels only inside its box and its shadow."""
    whole = scene(3, degraded_share=0.0)
    before = whole.frame(5)
    nearest = max(item.track for item in before.objects)
    (box,) = (item.box_xyxy for item in before.objects if item.track == nearest)
    del whole._objects[nearest]
    changed = np.abs(before.image.astype(int) - whole.frame(5).image).max(-1) > 60
    rows, columns = np.flatnonzero(changed.any(1)), np.flatnonzero(changed.any(0))
    assert abs(columns[0] - box[0]) <= 2 and abs(rows[0] - box[1]) <= 2
    assert changed[box[1] : box[3], box[0] : box[2]].mean() > 0.3


def test_boxes_lie_in_the_frame_and_are_never_slivers() -> None:
    for seed in range(4):
        video = scene(seed)
        for index in range(16):
            for item in video.frame(index).objects:
                left, top, right, bottom = item.box_xyxy
                assert 0 <= left < right <= 160 and 0 <= top < bottom <= 120
                assert min(right - left, bottom - top) >= 4


def test_the_same_settings_give_the_same_bytes(tmp_path: Path) -> None:
    small = replace(SMALL, train_videos=1, val_videos=1, frames=6, val_frames=6)
    for name, config in (("a", small), ("b", small), ("c", replace(small, seed=1))):
        prepare_synthetic(tmp_path / name, config)
    assert digests(tmp_path / "a") == digests(tmp_path / "b")
    assert digests(tmp_path / "a")["train.json"] != digests(tmp_path / "c")["train.json"]


def test_frames_can_be_drawn_in_any_order() -> None:
    forward, backward = scene(7), scene(7)
    first = [forward.frame(index).image for index in range(16)]
    last = [backward.frame(index).image for index in reversed(range(16))]
    assert all(np.array_equal(a, b) for a, b in zip(first, reversed(last), strict=True))


def test_training_and_validation_do_not_share_a_picture(rendered: Path) -> None:
    frames = [path.read_bytes() for path in sorted(rendered.rglob("000000.JPEG"))]
    assert len(set(frames)) == len(frames) == 5


def test_all_classes_come_equally_often_in_any_number() -> None:
    config = SyntheticConfig(mixed_share=0.0)
    for split, count in (("train", 396), ("val", 36)):
        dealt = synthetic._deal_classes(config, split)
        assert len(dealt) == count
        kinds = Counter((names[0], len(names)) for names in dealt if len(set(names)) == 1)
        assert kinds == dict.fromkeys(product(OBJECT_CLASSES, (1, 2, 3)), count // 18)


def test_few_videos_hold_a_second_class() -> None:
    dealt = synthetic._deal_classes(SyntheticConfig(), "train")
    assert max(len(set(names)) for names in dealt) == 2
    several = [names for names in dealt if len(names) > 1]
    assert 0.05 < sum(len(set(names)) == 2 for names in several) / len(several) < 0.2


def test_the_preview_is_the_first_validation_video(rendered: Path) -> None:
    videos = VideoSet.load(rendered / "val.json")
    with VideoReader(rendered / "preview.mp4") as preview, closing(FrameReader(videos)) as reader:
        assert (preview.width, preview.height) == (160, 120)
        frames = [frame.image.astype(int) for frame in preview]
        assert len(frames) == 16
        apart = [np.abs(frame - reader.read(i)).mean() for i, frame in enumerate(frames)]
    assert float(np.median(apart)) < 6


def test_a_finished_set_is_kept_and_another_folder_is_not_touched(
    rendered: Path, tmp_path: Path
) -> None:
    before = digests(rendered)
    prepare_synthetic(rendered, SMALL)
    assert digests(rendered) == before
    with pytest.raises(DataError, match="contains another rendered set"):
        prepare_synthetic(rendered, replace(SMALL, seed=5))
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(DataError, match="contains something else"):
        prepare_synthetic(tmp_path, SMALL)
    assert digests(rendered) == before and digests(tmp_path).keys() == {"mine.txt"}


def test_a_failure_leaves_nothing_under_the_final_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = replace(SMALL, train_videos=1, val_videos=1, frames=4, val_frames=4)
    with monkeypatch.context() as patch:
        patch.setattr(synthetic, "_write_lists", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            prepare_synthetic(tmp_path / "set", small)
    assert not (tmp_path / "set").exists()
    prepare_synthetic(tmp_path / "set", small)  # replaces what was left
    assert [path.name for path in tmp_path.iterdir()] == ["set"]


def test_a_foreign_partial_folder_is_not_removed(tmp_path: Path) -> None:
    (tmp_path / "set.partial").mkdir()
    (tmp_path / "set.partial" / "mine.txt").write_text("mine")
    prepare_synthetic(tmp_path / "set", replace(SMALL, train_videos=1, val_videos=1, frames=4))
    assert (tmp_path / "set.partial" / "mine.txt").exists()


@pytest.mark.parametrize(
    "wrong",
    [
        {"train_videos": 0},
        {"frames": 0},
        {"val_frames": 0},
        {"width": 20},
        {"height": 5000},
        {"classes": ("disc", "horse")},
        {"classes": ()},
        {"min_objects": 3, "max_objects": 2},
        {"mixed_share": 1.1},
        {"degraded_share": 0.7},
        {"seed": -1},
    ],
)
def test_settings_that_cannot_be_rendered_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="expected"):
        SyntheticConfig(**wrong)
