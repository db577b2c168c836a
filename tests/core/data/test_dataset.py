"""Training clips: their content, and that it depends only on seed, epoch and index."""

from __future__ import annotations

import dataclasses
import json
import pickle
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch

from sparsevod_core.config import DataConfig
from sparsevod_core.data.dataset import ClipDataset, TrainingSample, clip_generator
from sparsevod_core.data.records import VideoSet
from sparsevod_core.errors import DataError

if TYPE_CHECKING:
    from conftest import TinySet

CONFIG = DataConfig(short_side=64, long_side=128, supports=2, support_range=9)


def dataset(source: TinySet, seed: int = 0, **changes: Any) -> ClipDataset:
    config = dataclasses.replace(CONFIG, **changes)
    return ClipDataset(VideoSet.load(source.annotations), config, seed)


def frame_numbers(sample: TrainingSample) -> list[int]:
    return [int(Path(file).stem) for file in sample.files]


def same(a: TrainingSample, b: TrainingSample) -> bool:
    return (
        a.files == b.files
        and torch.equal(a.images, b.images)
        and torch.equal(a.targets.boxes_xyxy, b.targets.boxes_xyxy)
        and torch.equal(a.targets.labels, b.targets.labels)
    )


def test_every_target_frame_has_a_clip(image_set: TinySet) -> None:
    clips = dataset(image_set)
    targets = [
        Path(clips[0, i].files[0]).relative_to(image_set.annotations.parent)
        for i in range(len(clips))
    ]
    assert [str(path) for path in targets] == [
        *(f"long/{i:06}.png" for i in range(0, 24, 2)),
        *(f"narrow/{i:06}.png" for i in range(0, 7, 2)),
        "single/000000.png",
        "still.png",
    ]


def test_supports_are_near_frames_of_the_same_video(image_set: TinySet) -> None:
    clips = dataset(image_set, supports=4, support_range=3)
    odd = 0
    for epoch in range(10):
        sample = clips[epoch, 5]
        target, *supports = frame_numbers(sample)
        assert {Path(file).parent.name for file in sample.files} == {"long"}
        assert sum(support < target for support in supports) == 2
        assert all(0 < abs(support - target) <= 3 for support in supports)
        odd += sum(support % 2 for support in supports)
    assert odd  # frames that are not trained on support those that are


@pytest.mark.parametrize("index", [16, 17])
def test_a_single_frame_supports_itself(image_set: TinySet, index: int) -> None:
    sample = dataset(image_set)[0, index]
    assert len(sample.files) == 3 and len(set(sample.files)) == 1
    assert torch.equal(sample.images[0], sample.images[1])
    assert torch.equal(sample.images[0], sample.images[2])


def test_target_and_supports_share_one_augmentation(image_set: TinySet) -> None:
    """A single frame supports itself, so all three images are equal after any augmentation."""
    clips = dataset(image_set, crop=0.5, colour=0.5)
    seen = []
    for epoch in range(12):
        images = clips[epoch, 16].images
        assert torch.equal(images[0], images[1]) and torch.equal(images[0], images[2])
        seen.append(images[0])
    assert not any(torch.equal(seen[0], other) for other in seen[1:])


def test_a_clip_may_have_no_supports(image_set: TinySet) -> None:
    sample = dataset(image_set, supports=0)[0, 3]
    assert sample.images.shape == (1, 3, 64, 96) and len(sample.files) == 1


def test_an_empty_frame_is_a_clip_too(image_set: TinySet) -> None:
    sample = dataset(image_set)[0, 2]
    assert frame_numbers(sample)[0] == 4
    assert sample.targets.boxes_xyxy.shape == (0, 4) and sample.targets.labels.shape == (0,)


@pytest.mark.parametrize("flip", [0.0, 1.0])
@pytest.mark.parametrize("kind", ["image_set", "video_set"])
def test_boxes_lie_on_their_objects(kind: str, flip: float, request: pytest.FixtureRequest) -> None:
    sample = dataset(request.getfixturevalue(kind), flip=flip)[0, 4]
    # Frame 8: a red square at x 10 to 26 of 96, a blue bar at x 76 to 84.
    (square, bar), image = sample.targets.boxes_xyxy, sample.images[0].float()
    assert sample.targets.labels.tolist() == [0, 1]
    assert square[[0, 2]].tolist() == ([70, 86] if flip else [10, 26])
    assert bar[[0, 2]].tolist() == ([12, 20] if flip else [76, 84])
    for box, channel in ((square, 0), (bar, 2)):
        left, top, right, bottom = (round(edge) for edge in box.tolist())
        assert image[channel, top + 1 : bottom - 1, left + 1 : right - 1].min() > 200
        assert image[channel].gt(200).sum() <= (right - left + 2) * (bottom - top + 2)


def test_half_of_the_clips_are_flipped(image_set: TinySet) -> None:
    clips = dataset(image_set)
    lefts = [clips[epoch, 4].targets.boxes_xyxy[0, 0].item() for epoch in range(60)]
    assert set(lefts) == {10, 70}
    assert 15 < lefts.count(70) < 45


def test_images_and_video_files_give_the_same_clips(image_set: TinySet, video_set: TinySet) -> None:
    from_images, from_videos = dataset(image_set), dataset(video_set)
    for index in range(len(from_videos)):
        a, b = from_images[3, index], from_videos[3, index]
        assert torch.equal(a.targets.boxes_xyxy, b.targets.boxes_xyxy)
        assert (a.images.float() - b.images.float()).abs().mean() < 3
        assert frame_numbers(a) == [int(file.rpartition(" frame ")[2]) for file in b.files]


def test_a_clip_depends_only_on_seed_epoch_and_index(image_set: TinySet) -> None:
    clips = dataset(image_set)
    first = clips[0, 5]
    torch.manual_seed(123)
    for epoch, index in ((1, 5), (0, 6), (2, 0)):
        clips[epoch, index]
    torch.rand(7)
    assert same(clips[0, 5], first)
    assert same(dataset(image_set)[0, 5], first)
    assert same(pickle.loads(pickle.dumps(clips))[0, 5], first)
    others = [clips[epoch, 5] for epoch in range(1, 9)]
    others += [dataset(image_set, seed=seed)[0, 5] for seed in (1, 2, -1, 2**70)]
    assert len({other.files for other in others}) > 5


def test_the_global_generator_is_not_touched(image_set: TinySet) -> None:
    clips = dataset(image_set)
    before = torch.get_rng_state()
    clips[0, 5]
    assert torch.equal(torch.get_rng_state(), before)


def test_neighbouring_keys_have_unrelated_generators() -> None:
    keys = [(seed, epoch, index) for seed in (0, 1) for epoch in (0, 1) for index in range(50)]
    draws = [torch.rand((), generator=clip_generator(*key)).item() for key in keys]
    assert len(set(draws)) == len(draws)
    assert 0.4 < sum(draws) / len(draws) < 0.6


def test_boxes_are_clipped_and_crowds_skipped(image_set: TinySet, tmp_path: Path) -> None:
    content = json.loads(image_set.annotations.read_text())
    content["annotations"] = [
        {"id": i, "image_id": 900, "category_id": 7, "bbox": box, "iscrowd": crowd}
        for i, (box, crowd) in enumerate(
            [
                ([-10, -5, 30, 25], 0),
                ([90, 60, 50, 50], 0),
                ([1, 1, 5, 5], 1),
                ([5, 5, 0, 9], 0),  # no area
                ([200, 10, 5, 5], 0),  # outside
                ([50, 30, 1, 1], 0),
            ]
        )
    ]
    path = tmp_path / "odd.json"
    path.write_text(json.dumps(content))
    videos = VideoSet.load(path, image_set.annotations.parent)
    clips = ClipDataset(videos, dataclasses.replace(CONFIG, flip=0.0), 0)
    assert clips[0, 17].targets.boxes_xyxy.tolist() == [
        [0, 0, 20, 20],
        [90, 60, 96, 64],
        [50, 30, 51, 31],
    ]


def test_nothing_to_train_on(image_set: TinySet, tmp_path: Path) -> None:
    content = json.loads(image_set.annotations.read_text())
    for image in content["images"]:
        image["is_vid_train_frame"] = False
    path = tmp_path / "none.json"
    path.write_text(json.dumps(content))
    with pytest.raises(DataError, match=r"none\.json: no frame to train on"):
        ClipDataset(VideoSet.load(path), CONFIG, 0)
