"""VideoWriter: exact times, any size, complete files or none."""

from __future__ import annotations

import resource
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from sparsevod_core.errors import ConfigError, DataError, VideoError
from sparsevod_core.video.containers import CONTAINERS, Encoding
from sparsevod_core.video.reader import VideoReader
from sparsevod_core.video.writer import VideoWriter


def gradient(number: int, width: int, height: int) -> np.ndarray:
    """Make a smooth image, which compression hardly changes."""
    x = np.linspace(0, 120, width)[None, :, None]
    y = np.linspace(0, 60, height)[:, None, None]
    return (x + y + np.array([20, 40, 60]) + number % 5).astype(np.uint8)


def write(path: Path, times: list[Fraction | None], width: int = 64, height: int = 48, **how: Any):
    how = {"frame_rate": Fraction(25), **how}
    with VideoWriter(path, width, height, **how) as writer:
        for number, time_s in enumerate(times):
            writer.write(gradient(number, width, height), time_s)
    return path


def times_in(path: Path) -> list[Fraction]:
    with VideoReader(path) as reader:
        times = [frame.time_s for frame in reader]
    assert None not in times
    return times  # type: ignore[return-value]


@pytest.mark.parametrize(
    ("rate", "time_base"),
    [
        (Fraction(30000, 1001), Fraction(1, 30000)),
        (Fraction(30000, 1001), Fraction(1001, 30000)),
        (Fraction(24000, 1001), Fraction(1, 1000 * 24)),
        (Fraction(25, 2), Fraction(1, 25000)),
        (Fraction(1), Fraction(1, 16384)),
        (Fraction(60), Fraction(1, 90000)),
    ],
)
def test_constant_rate_stays_exact(tmp_path: Path, rate: Fraction, time_base: Fraction) -> None:
    times = [number / rate for number in range(50)]
    path = write(tmp_path / "out.mp4", times, frame_rate=rate, time_base=time_base)
    assert times_in(path) == times
    with VideoReader(path) as reader:
        assert reader.frame_rate == rate
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert stream.duration * stream.time_base == 50 / rate


def test_variable_rate_stays_variable_and_lasts_to_the_end(tmp_path: Path) -> None:
    ms = [0, 33, 67, 196, 250, 1000, 1010, 5000]
    times = [Fraction(one, 1000) for one in ms]
    path = write(tmp_path / "out.mp4", times, time_base=Fraction(1, 1000))
    assert times_in(path) == times
    with av.open(str(path)) as container:
        assert container.duration / av.time_base > 5


def test_a_first_frame_after_zero_stays_there(tmp_path: Path) -> None:
    times = [Fraction(number, 10) for number in (5, 6, 7)]
    assert times_in(write(tmp_path / "out.mp4", times, time_base=Fraction(1, 10))) == times


def test_without_times_frames_follow_the_rate(tmp_path: Path) -> None:
    path = write(tmp_path / "out.mp4", [None] * 4, frame_rate=Fraction(30000, 1001))
    assert times_in(path) == [number * Fraction(1001, 30000) for number in range(4)]
    path = write(tmp_path / "out.mp4", [None] * 4, frame_rate=None)
    assert times_in(path) == [Fraction(number, 25) for number in range(4)]


def test_repeated_or_decreasing_times_lose_no_frame(tmp_path: Path) -> None:
    times = [Fraction(0), Fraction(1, 10), Fraction(1, 10), Fraction(1, 20), None, Fraction(1)]
    found = times_in(write(tmp_path / "out.mp4", times, time_base=Fraction(1, 100)))
    assert found[:2] == [0, Fraction(1, 10)]
    assert found[-1] == 1
    assert len(found) == 6
    assert found == sorted(set(found))


@pytest.mark.parametrize("size", [(64, 48), (63, 48), (64, 47), (35, 21), (2, 2), (1, 1), (1, 9)])
def test_odd_sizes_repeat_the_last_pixels(tmp_path: Path, size: tuple[int, int]) -> None:
    width, height = size
    path = write(tmp_path / "out.mp4", [None] * 3, width, height, encoding=Encoding(crf=1))
    with VideoReader(path) as reader:
        frames = list(reader)
        assert (reader.width, reader.height) == (width + width % 2, height + height % 2)
    for number, frame in enumerate(frames):
        right, below = frame.image.shape[1] - width, frame.image.shape[0] - height
        wanted = np.pad(
            gradient(number, width, height), ((0, below), (0, right), (0, 0)), mode="edge"
        )
        assert np.abs(frame.image.astype(int) - wanted).max() <= 6


def test_what_players_need(tmp_path: Path) -> None:
    path = write(tmp_path / "out.mp4", [None] * 30, pixel_aspect=Fraction(4, 3))
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert stream.codec_context.name == "h264"
        assert stream.codec_context.pix_fmt == "yuv420p"
        assert stream.codec_context.color_range == 1
        assert stream.codec_context.colorspace == 1
        assert stream.sample_aspect_ratio == Fraction(4, 3)
        packets = list(container.demux(stream))
        assert [packet.dts for packet in packets] == [packet.pts for packet in packets]
    content = path.read_bytes()
    assert content.index(b"moov") < content.index(b"mdat")


@pytest.mark.parametrize("color", [(200, 60, 30), (20, 200, 40), (30, 30, 220), (250, 250, 250)])
def test_colors_are_preserved(tmp_path: Path, color: tuple[int, int, int]) -> None:
    with VideoWriter(tmp_path / "out.mp4", 32, 32, frame_rate=None) as writer:
        writer.write(np.full((32, 32, 3), color, np.uint8))
    with VideoReader(writer.path) as reader:
        assert np.abs(next(iter(reader)).image[16, 16].astype(int) - color).max() <= 4


def test_crf_sets_size(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    sizes = []
    for crf in (10, 40):
        how = Encoding(crf=crf)
        with VideoWriter(tmp_path / "out.mp4", 64, 64, frame_rate=None, encoding=how) as writer:
            for _ in range(5):
                writer.write(noise)
        sizes.append(writer.path.stat().st_size)
    assert sizes[0] > 2 * sizes[1]


# --- other containers -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "codec", "wanted"),
    [
        ("a.mp4", "hevc", "hevc"),
        ("a.mov", None, "h264"),
        ("a.mkv", None, "h264"),
        ("a.webm", None, "vp9"),
        ("a.mkv", "av1", "av1"),
    ],
)
def test_containers_and_codecs(tmp_path: Path, name: str, codec: str, wanted: str) -> None:
    """Times that the container can represent, here milliseconds, stay exact."""
    times = [Fraction(ms, 1000) for ms in (0, 33, 67, 100, 300, 301)]
    path = write(
        tmp_path / name,
        times,
        time_base=Fraction(1, 1000),
        encoding=Encoding(codec),
        width=66,
        height=65,
    )
    assert times_in(path) == times
    with av.open(str(path)) as container:
        assert container.streams.video[0].codec_context.codec.canonical_name == wanted
        image = next(container.decode(video=0))
    assert (image.width, image.height, image.format.name) == (66, 66, "yuv420p")
    with VideoReader(path) as reader:
        wrong = next(iter(reader)).image[:65].astype(int) - gradient(0, 66, 65)
    assert np.abs(wrong).mean() < 4


def test_apple_plays_hevc(tmp_path: Path) -> None:
    path = write(tmp_path / "a.mp4", [None] * 3, encoding=Encoding("hevc"))
    with av.open(str(path)) as container:
        assert container.streams.video[0].codec_context.codec_tag == "hvc1"


def test_a_gif_keeps_time_to_a_hundredth_and_odd_sizes(tmp_path: Path) -> None:
    path = write(tmp_path / "a.gif", [Fraction(n, 30) for n in range(30)], width=33, height=31)
    times = times_in(path)
    assert times == [Fraction(round(Fraction(100 * n, 30)), 100) for n in range(30)]
    with VideoReader(path) as reader:
        images = [frame.image for frame in reader]
    assert images[0].shape == (31, 33, 3)
    for number, image in enumerate(images):
        assert np.abs(image.astype(int) - gradient(number, 33, 31)).mean() < 6


def test_a_gif_is_not_slowed_down_by_a_high_frame_rate(tmp_path: Path) -> None:
    """Browsers show a delay of 1/100 s as 1/10 s: frames that are so close are dropped."""
    times = times_in(write(tmp_path / "a.gif", [Fraction(n, 60) for n in range(60)]))
    gaps = [after - before for before, after in pairwise(times)]
    assert min(gaps) >= Fraction(2, 100)
    assert times[-1] > Fraction(95, 100)


def test_the_bitrate_sets_the_size(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (50, 96, 96, 3), dtype=np.uint8)
    for wanted in ("200k", "0.8M"):
        how = Encoding(bitrate=wanted)
        with VideoWriter(tmp_path / "a.mp4", 96, 96, frame_rate=None, encoding=how) as writer:
            for image in noise:
                writer.write(image)
        bits_per_second = writer.path.stat().st_size * 8 / 2
        assert bits_per_second == pytest.approx(how.bits_per_second(), rel=0.4)


@pytest.mark.parametrize(
    ("name", "how", "says"),
    [
        ("a.webm", {"codec": "h264"}, "h264: not supported in webm"),
        ("a.mp4", {"crf": 52}, "0 to 51 for h264"),
        ("a.gif", {"crf": 3}, "neither crf"),
        ("a.mp4", {"codec": "theora"}, "h264, hevc"),
        ("a.mp4", {"crf": 3, "bitrate": "2M"}, "only one of them"),
        ("a.mp4", {"bitrate": "2 Mbit"}, "800k or 2M"),
        ("a.mp4", {"bitrate": "0"}, "800k or 2M"),
    ],
)
def test_encodings_that_do_not_fit(tmp_path: Path, name: str, how: Any, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        VideoWriter(tmp_path / name, 64, 48, frame_rate=None, encoding=Encoding(**how))
    assert list(tmp_path.iterdir()) == []


# --- complete or none -----------------------------------------------------------------------------


def test_the_name_appears_when_complete(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "out.mp4"
    with VideoWriter(path, 64, 48, frame_rate=None) as writer:
        writer.write(gradient(0, 64, 48))
        assert not path.exists()
    assert [file.name for file in path.parent.iterdir()] == ["out.mp4"]


@pytest.mark.parametrize("kind", [ValueError, KeyboardInterrupt])
def test_an_exception_leaves_nothing_and_keeps_what_was_there(
    tmp_path: Path, kind: type[BaseException]
) -> None:
    path = tmp_path / "out.mp4"
    with VideoWriter(path, 64, 48, frame_rate=None) as writer:
        writer.write(gradient(0, 64, 48))
    before = path.read_bytes()
    with pytest.raises(kind), VideoWriter(path, 64, 48, frame_rate=None) as writer:
        writer.write(gradient(0, 64, 48))
        raise kind
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_no_frames_is_an_error(tmp_path: Path) -> None:
    with (
        pytest.raises(VideoError, match="no frame"),
        VideoWriter(tmp_path / "out.mp4", 64, 48, frame_rate=None),
    ):
        pass
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"out\.avi.* cannot write videos as \.avi"):
        VideoWriter(tmp_path / "out.avi", 64, 48, frame_rate=None)
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="cannot write"):
        VideoWriter(tmp_path / "file" / "out.mp4", 64, 48, frame_rate=None)
    with (
        pytest.raises(ValueError, match="shape"),
        VideoWriter(tmp_path / "out.mp4", 64, 48, frame_rate=None) as writer,
    ):
        writer.write(gradient(0, 48, 64))


def test_a_full_disk_is_an_error(tmp_path: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        with (
            pytest.raises(DataError, match=r"out\.mp4: cannot write: File too large"),
            VideoWriter(tmp_path / "out.mp4", 64, 48, frame_rate=None) as writer,
        ):
            for number in range(20):
                writer.write(gradient(number, 64, 48))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("suffix", CONTAINERS)
def test_only_an_earlier_output_is_replaced(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"out{suffix}"
    for _ in range(2):
        with VideoWriter(path, 64, 48, frame_rate=None) as writer:
            writer.write(gradient(0, 64, 48))
    with av.open(str(path)) as video:
        assert len(list(video.decode(video=0))) == 1
    codec, pixels = ("gif", "rgb8") if suffix == ".gif" else ("libx264", "yuv420p")
    codec = "libvpx-vp9" if suffix == ".webm" else codec
    with av.open(str(path), "w", format=CONTAINERS[suffix].muxer) as other:
        stream = other.add_stream(codec, rate=1)
        stream.width, stream.height, stream.pix_fmt = 64, 48, pixels
        frame = av.VideoFrame.from_ndarray(gradient(0, 64, 48), format="rgb24")
        other.mux(stream.encode(frame.reformat(format=pixels)))
        other.mux(stream.encode(None))
    recorded = path.read_bytes()
    with pytest.raises(ConfigError, match="already exists, and is not a video written by"):
        VideoWriter(path, 64, 48, frame_rate=None)
    assert path.read_bytes() == recorded and list(tmp_path.iterdir()) == [path]
