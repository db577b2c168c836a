"""Animated WebP: frames and times as Pillow wrote them, and files that are cut off."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sparsevod_core.errors import VideoError
from sparsevod_core.video.animated_webp import AnimatedWebp
from sparsevod_core.video.opening import open_source
from sparsevod_core.video.overlap import ReadAhead
from sparsevod_core.video.reader import VideoReader
from sparsevod_core.video.sources import Source

DURATIONS_MS = [100, 50, 200, 100, 50]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    images = [Image.new("RGB", (32, 24), (40 * i, 0, 200 - 40 * i)) for i in range(5)]
    path = tmp_path / "clip.webp"
    images[0].save(
        path, save_all=True, append_images=images[1:], duration=DURATIONS_MS, lossless=True
    )
    return path


def test_frames_and_times(path: Path) -> None:
    with open_source(Source("file", str(path))) as video:
        assert isinstance(video, AnimatedWebp)
        assert (video.width, video.height, video.declared_num_frames) == (32, 24, 5)
        assert video.frame_rate == 10
        frames = list(video)
        assert [frame.image[9, 9].tolist() for frame in frames] == [
            [40 * i, 0, 200 - 40 * i] for i in range(5)
        ]
        starts_ms = [0, 100, 150, 350, 450]
        assert [frame.time_s for frame in frames] == [Fraction(ms, 1000) for ms in starts_ms]
        for frame in video.frames_at([4, 1]):
            assert np.array_equal(frame.image, frames[frame.index].image)
        with pytest.raises(VideoError, match="no frame 5"):
            video.frames_at([5])


def test_frames_can_be_read_while_a_thread_reads_ahead(tmp_path: Path) -> None:
    grays = list(range(0, 240, 4))
    images = [Image.new("RGB", (320, 240), (gray, gray, gray)) for gray in grays]
    images[0].save(
        tmp_path / "long.webp", save_all=True, append_images=images[1:], duration=40, lossless=True
    )
    with AnimatedWebp(tmp_path / "long.webp") as video:
        for frame in ReadAhead(video, 8):
            other = frame.index * 7 % len(grays)
            (read,) = video.frames_at([other])
            assert (frame.image == grays[frame.index]).all() and (read.image == grays[other]).all()


def test_one_that_is_cut_off_gives_its_complete_frames(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-40])
    with AnimatedWebp(path) as video:
        count = video.num_frames()
        assert 0 < count < 5
        with pytest.raises(VideoError, match=f"breaks off after {count} frames"):
            list(video)
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(VideoError, match="cannot decode any frame"):
        AnimatedWebp(path)


def test_a_single_image_is_a_video_of_one_frame(tmp_path: Path) -> None:
    Image.new("RGB", (32, 24)).save(tmp_path / "still.webp")
    with open_source(Source("file", str(tmp_path / "still.webp"))) as video:
        assert isinstance(video, VideoReader)
        assert len(list(video)) == 1


@pytest.mark.parametrize("suffix", [".webp", ".png", ".gif"])
def test_animated_images_are_videos(tmp_path: Path, suffix: str) -> None:
    images = [Image.new("RGB", (32, 24), (25 * i, 40, 40)) for i in range(10)]
    path = tmp_path / f"clip{suffix}"
    images[0].save(path, save_all=True, append_images=images[1:], duration=100, loop=0)
    with open_source(Source("file", str(path))) as video:
        frames = list(video)
        assert [frame.time_s for frame in frames] == [Fraction(i, 10) for i in range(10)]
        reds = [int(frame.image[9, 9, 0]) for frame in frames]
        assert np.abs(np.subtract(reds, [25 * i for i in range(10)])).max() <= 12
