"""Batches: identical with any number of workers and ranks, and after resuming within an epoch."""

from __future__ import annotations

import dataclasses
import gc
import json
import multiprocessing
import os
import signal
import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sparsevod_core.config import DataConfig
from sparsevod_core.data.dataset import ClipDataset
from sparsevod_core.data.loader import (
    TrainingBatch,
    TrainingLoader,
    epoch_batches,
    naming_lost_workers,
    steps_per_epoch,
)
from sparsevod_core.data.records import VideoSet
from sparsevod_core.errors import DataError
from sparsevod_core.video.reader import VideoReader

if TYPE_CHECKING:
    from conftest import TinySet

CONFIG = DataConfig(short_side=64, long_side=128, supports=2)


@pytest.fixture(scope="session")
def clips(video_set: TinySet) -> ClipDataset:
    """17 clips from video files."""
    return ClipDataset(VideoSet.load(video_set.annotations), CONFIG, seed=3)


def loader(clips: ClipDataset, **changes: Any) -> TrainingLoader:
    options = {"clips_per_gpu": 2, "rank": 0, "world_size": 1, "epoch": 0, "workers": 0, "seed": 3}
    return TrainingLoader(clips, **(options | changes))


def assert_same(got: Iterable[TrainingBatch], expected: Iterable[TrainingBatch]) -> None:
    for a, b in zip(got, expected, strict=True):
        assert a.files == b.files
        for name in ("images", "supports", "image_sizes"):
            assert torch.equal(getattr(a.clip, name), getattr(b.clip, name))
        for ours, theirs in zip(a.targets, b.targets, strict=True):
            assert torch.equal(ours.boxes_xyxy, theirs.boxes_xyxy)
            assert torch.equal(ours.labels, theirs.labels)


@pytest.mark.parametrize("kind", ["video_set", "image_set"])
def test_workers_change_nothing(kind: str, request: pytest.FixtureRequest) -> None:
    """With every augmentation, and also when resuming within an epoch."""
    config = dataclasses.replace(CONFIG, crop=0.3, colour=0.3)
    source: TinySet = request.getfixturevalue(kind)
    clips = ClipDataset(VideoSet.load(source.annotations), config, seed=3)
    alone = list(loader(clips, epoch=1))
    assert len(alone) == len(loader(clips)) == 9
    for workers in (1, 2):
        assert_same(loader(clips, epoch=1, workers=workers), alone)
    for workers, first_step in ((0, 1), (1, 8), (2, 4), (2, 9)):
        rest = loader(clips, epoch=1, first_step=first_step, workers=workers)
        assert len(rest) == 9 - first_step
        assert_same(rest, alone[first_step:])


def test_skipped_steps_are_not_loaded(clips: ClipDataset, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = []
    getitem = ClipDataset.__getitem__

    def counting(self: ClipDataset, key: tuple[int, int]) -> Any:
        loaded.append(key)
        return getitem(self, key)

    monkeypatch.setattr(ClipDataset, "__getitem__", counting)
    assert len(list(loader(clips, first_step=7))) == 2
    assert len(loaded) == 4


def test_the_global_generator_is_not_touched(clips: ClipDataset) -> None:
    before = torch.get_rng_state()
    for workers in (0, 1):
        next(iter(loader(clips, workers=workers)))
        assert torch.equal(torch.get_rng_state(), before)


def test_epochs_and_seeds_give_new_orders() -> None:
    orders = [
        epoch_batches(17, clips_per_gpu=1, rank=0, world_size=1, epoch=epoch, seed=seed)
        for epoch in range(3)
        for seed in range(3)
    ]
    assert len({str(order) for order in orders}) == 9


@given(
    num_samples=st.integers(1, 60),
    clips_per_gpu=st.integers(1, 7),
    world_size=st.integers(1, 5),
    epoch=st.integers(0, 3),
)
def test_ranks_share_every_sample(
    num_samples: int, clips_per_gpu: int, world_size: int, epoch: int
) -> None:
    steps = steps_per_epoch(num_samples, clips_per_gpu, world_size)
    per_rank = [
        epoch_batches(
            num_samples,
            clips_per_gpu=clips_per_gpu,
            rank=rank,
            world_size=world_size,
            epoch=epoch,
            seed=0,
        )
        for rank in range(world_size)
    ]
    assert all(len(batches) == steps for batches in per_rank)
    assert all(len(batch) == clips_per_gpu for batches in per_rank for batch in batches)
    times = Counter(index for batches in per_rank for batch in batches for index in batch)
    assert set(times) == set(range(num_samples))
    assert max(times.values()) - min(times.values()) <= 1
    assert (steps - 1) * clips_per_gpu * world_size < num_samples
    one_process = epoch_batches(
        num_samples,
        clips_per_gpu=clips_per_gpu * world_size,
        rank=0,
        world_size=1,
        epoch=epoch,
        seed=0,
    )
    for step, global_batch in enumerate(one_process):
        assert [index for batches in per_rank for index in batches[step]] == global_batch


def test_clips_of_different_sizes_are_padded_to_the_largest(clips: ClipDataset) -> None:
    shapes = set()
    for batch in loader(clips, clips_per_gpu=4):
        clip = batch.clip
        assert clip.images.shape == (4, 3, *clip.images.shape[2:])
        assert clip.supports.shape == (4, 2, *clip.images.shape[1:])
        largest = clip.image_sizes.amax(dim=0)
        assert clip.images.shape[2:] == tuple((largest + 31) // 32 * 32)
        shapes |= {tuple(size) for size in clip.image_sizes.tolist()}
        for row, (height, width) in enumerate(clip.image_sizes.tolist()):
            frames = torch.cat([clip.images[row : row + 1], clip.supports[row]])
            assert frames[:, :, height:].sum() == 0 and frames[..., width:].sum() == 0
            assert frames[:, :, :height, :width].float().mean() > 10
    assert shapes == {(64, 96), (107, 64)}


def test_a_batch_holds_the_clips_of_the_dataset(clips: ClipDataset) -> None:
    (indices, *_) = epoch_batches(17, clips_per_gpu=3, rank=0, world_size=1, epoch=2, seed=3)
    batch = next(iter(loader(clips, clips_per_gpu=3, epoch=2)))
    for row, index in enumerate(indices):
        sample = clips[2, index]
        _, _, height, width = sample.images.shape
        assert torch.equal(batch.clip.images[row, :, :height, :width], sample.images[0])
        assert torch.equal(batch.clip.supports[row, :, :, :height, :width], sample.images[1:])
        assert batch.clip.image_sizes[row].tolist() == [height, width]
        assert torch.equal(batch.targets[row].boxes_xyxy, sample.targets.boxes_xyxy)
        assert batch.files[row] == sample.files


def test_no_supports(video_set: TinySet) -> None:
    config = dataclasses.replace(CONFIG, supports=0)
    clips = ClipDataset(VideoSet.load(video_set.annotations), config, seed=0)
    batch = next(iter(loader(clips)))
    assert batch.clip.supports.shape[:3] == (2, 0, 3)
    assert batch.clip.images.shape[:2] == (2, 3)


def test_a_batch_moves_as_a_whole(clips: ClipDataset) -> None:
    batch = next(iter(loader(clips))).to("meta")
    assert batch.clip.images.is_meta and batch.clip.supports.is_meta
    assert all(one.boxes_xyxy.is_meta and one.labels.is_meta for one in batch.targets)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_missing_frame_is_named_in_one_line(
    image_set: TinySet, tmp_path: Path, workers: int
) -> None:
    content = json.loads(image_set.annotations.read_text())
    content["images"][0]["file_name"] = "gone.png"
    path = tmp_path / "gone.json"
    path.write_text(json.dumps(content))
    videos = VideoSet.load(path, image_set.annotations.parent)
    clips = ClipDataset(videos, CONFIG, seed=0)
    with pytest.raises(DataError) as caught:
        list(loader(clips, workers=workers))
    gone = image_set.annotations.parent / "gone.png"
    assert str(caught.value) == f"{gone}: cannot read the image: No such file or directory"
    assert "wrong folder" in (caught.value.hint or "")


def test_an_unexpected_error_keeps_its_traceback(
    clips: ClipDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(self: ClipDataset, key: tuple[int, int]) -> Any:
        raise RuntimeError("a bug")

    monkeypatch.setattr(ClipDataset, "__getitem__", broken)
    with pytest.raises(RuntimeError, match=r"(?s)Original Traceback.*a bug"):
        list(loader(clips, workers=1))


def test_a_killed_worker_is_a_clear_error(
    clips: ClipDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(self: ClipDataset, key: tuple[int, int]) -> Any:
        os.kill(os.getpid(), signal.SIGKILL)

    monkeypatch.setattr(ClipDataset, "__getitem__", killed)
    with pytest.raises(DataError, match="a loader process died") as caught, naming_lost_workers():
        list(loader(clips, workers=1))
    assert "out of memory" in (caught.value.hint or "")


def test_a_worker_that_is_killed_during_a_step_is_the_same_error(clips: ClipDataset) -> None:
    with pytest.raises(DataError, match="a loader process died"), naming_lost_workers():
        for _ in loader(clips, workers=1):
            (worker,) = multiprocessing.active_children()
            os.kill(worker.pid or 0, signal.SIGKILL)
            time.sleep(10)  # torch raises here, as it would in a step


def test_decoders_left_as_garbage_do_not_stop_the_workers(
    clips: ClipDataset, video_set: TinySet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A forked process lacks their threads, so collecting them there would wait forever."""
    getitem = ClipDataset.__getitem__

    def collecting(self: ClipDataset, key: tuple[int, int]) -> Any:
        gc.collect()
        return getitem(self, key)

    def too_long(_signal: int, _frame: Any) -> None:
        raise TimeoutError("a worker hangs")

    monkeypatch.setattr(ClipDataset, "__getitem__", collecting)
    monkeypatch.setattr(gc, "freeze", lambda: None)  # the second line of defence
    gc.disable()
    previous = signal.signal(signal.SIGALRM, too_long)
    signal.alarm(600)
    try:
        for name in video_set.images:
            VideoReader(video_set.annotations.parent / f"{name}.mp4").frames_at([0])
        assert len(list(loader(clips, workers=1, first_step=8))) == 1
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, previous)
        gc.enable()


def test_opencv_threads_of_the_parent_do_not_stop_the_workers(clips: ClipDataset) -> None:
    """A forked process cannot end OpenCV's thread pool."""

    def too_long(_signal: int, _frame: Any) -> None:
        raise TimeoutError("a worker hangs")

    threads = cv2.getNumThreads()
    previous = signal.signal(signal.SIGALRM, too_long)
    signal.alarm(600)
    try:
        cv2.setNumThreads(2)
        cv2.GaussianBlur(np.zeros((2000, 2000, 3), np.uint8), (9, 9), 2)  # makes the pool
        assert len(list(loader(clips, workers=1, first_step=8))) == 1
        assert cv2.getNumThreads() == 2
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, previous)
        cv2.setNumThreads(threads)


def test_leaving_an_epoch_early_ends_its_workers(clips: ClipDataset) -> None:
    before = set(multiprocessing.active_children())
    batches = iter(loader(clips, workers=2))
    next(batches)
    workers = set(multiprocessing.active_children()) - before
    assert len(workers) == 2
    del batches
    assert not any(worker.is_alive() for worker in workers)
