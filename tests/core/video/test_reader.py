"""VideoReader on real-world files: sequential and random access give the same frames."""

from __future__ import annotations

import re
import struct
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from sparsevod_core.errors import VideoError
from sparsevod_core.structures import Frame
from sparsevod_core.video.reader import VideoReader

WIDTH, HEIGHT = 64, 48
MS = Fraction(1, 1000)


def draw_number(number: int, height: int = HEIGHT, width: int = WIDTH) -> np.ndarray:
    """Draw a frame that encodes its number as eight bright or dark stripes, on a gradient."""
    bits = np.array([(number >> bit) & 1 for bit in range(8)], dtype=np.uint8)
    stripes = np.repeat(40 + 150 * bits, -(-width // 8))[:width]
    ramp = np.linspace(0, 50, height).astype(np.uint8)[:, None]
    return np.repeat((stripes[None] + ramp)[..., None], 3, axis=2)


def number_of(image: np.ndarray) -> int:
    """Read the number from a frame, after any codec."""
    width = image.shape[1]
    columns = [(2 * bit + 1) * -(-width // 8) // 2 for bit in range(8)]
    return sum((int(image[:, column].mean()) > 140) << bit for bit, column in enumerate(columns))


def encode(
    path: Path,
    num_frames: int = 40,
    *,
    times: list[int] | None = None,
    time_base: Fraction = Fraction(1001, 30000),
    codec: str = "libx264",
    container: dict[str, str] | None = None,
    pixels: str = "yuv420p",
    size: tuple[int, int] = (WIDTH, HEIGHT),
    **options: str,
) -> Path:
    """Write a video of numbered frames; frame i at `times[i]`, in units of `time_base`."""
    with av.open(str(path), "w", options=container or {}) as file:
        stream: Any = file.add_stream(codec, rate=Fraction(30000, 1001))
        stream.width, stream.height = size
        stream.pix_fmt = pixels
        stream.options = {name.replace("_", "-"): value for name, value in options.items()}
        stream.codec_context.time_base = stream.time_base = time_base
        for number in range(num_frames):
            frame = av.VideoFrame.from_ndarray(draw_number(number, *size[::-1]), format="rgb24")
            frame.time_base = time_base
            frame.pts = number if times is None else times[number]
            file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
    return path


def read(path: Path) -> tuple[list[Frame], VideoError | None]:
    """Return all frames, and the error that ends them."""
    frames: list[Frame] = []
    with VideoReader(path) as reader:
        try:
            frames.extend(reader)
        except VideoError as error:
            return frames, error
    return frames, None


def assert_random_access_agrees(path: Path, *orders: list[int]) -> None:
    """Check that `frames_at` gives what iterating does, on a new reader and after other calls."""
    frames, _ = read(path)
    with VideoReader(path) as reader:
        for order in orders:
            found = reader.frames_at(order)
            assert [frame.index for frame in found] == order
            for frame in found:
                assert frame.time_s == frames[frame.index].time_s
                assert np.array_equal(frame.image, frames[frame.index].image), frame.index


# --- every frame, at its time --------------------------------------------------------------------


def test_frames_come_in_presentation_order_at_exact_times(tmp_path: Path) -> None:
    frames, error = read(encode(tmp_path / "clip.mp4", bf="3"))
    assert error is None
    assert [number_of(frame.image) for frame in frames] == list(range(40))
    assert [frame.index for frame in frames] == list(range(40))
    assert [frame.time_s for frame in frames] == [i * Fraction(1001, 30000) for i in range(40)]
    assert frames[0].image.shape == (HEIGHT, WIDTH, 3)
    assert frames[0].image.dtype == np.uint8


def test_properties(tmp_path: Path) -> None:
    with VideoReader(str(encode(tmp_path / "clip.mp4"))) as reader:
        assert (reader.width, reader.height) == (WIDTH, HEIGHT)
        assert reader.frame_rate == Fraction(30000, 1001)
        assert reader.codec == "h264"
        assert not reader.has_audio
        assert reader.start_s == 0
        assert reader.num_frames() == reader.declared_num_frames == 40
        assert reader.path == tmp_path / "clip.mp4"


def test_iterating_restarts_and_does_not_affect_random_access(tmp_path: Path) -> None:
    path = encode(tmp_path / "clip.mp4")
    with VideoReader(path) as reader:
        walking = iter(reader)
        assert [number_of(next(walking).image) for _ in range(3)] == [0, 1, 2]
        assert number_of(reader.frames_at([30])[0].image) == 30
        assert number_of(next(walking).image) == 3
        assert len(list(reader)) == 40
        reader.close()
        assert number_of(reader.frames_at([7])[0].image) == 7


@pytest.mark.parametrize("name", ["clip.mp4", "clip.mkv"])
def test_variable_frame_rate(tmp_path: Path, name: str) -> None:
    times = [0, 33, 67, 500, 510, 2000, 2033, *range(3000, 3300, 10)]
    path = encode(tmp_path / name, len(times), times=times, time_base=MS, bf="2", g="10")
    frames, error = read(path)
    assert error is None
    assert [frame.time_s for frame in frames] == [time * MS for time in times]
    assert_random_access_agrees(path, [3, 5, 4], [36, 0, 20])


def test_a_broadcast_clock_that_starts_late(tmp_path: Path) -> None:
    times = [90_000 * 100 + 3003 * i for i in range(40)]
    path = encode(tmp_path / "clip.ts", times=times, time_base=Fraction(1, 90_000), bf="2", g="10")
    with VideoReader(path) as reader:
        frames = list(reader)
        assert reader.start_s == frames[0].time_s > 99
        assert reader.num_frames() == 40
    assert_random_access_agrees(path, [39], [11, 12], [0])


def two_clocks(tmp_path: Path, second_s: int) -> Path:
    """Write a transport stream whose clock jumps from an hour to `second_s` after 20 frames."""
    parts = []
    for number, start_s in enumerate((3600, second_s)):
        times = [10 * start_s + i for i in range(20)]
        copy_times = {"mpegts_copyts": "1"}
        path = tmp_path / f"part{number}.ts"
        encode(path, 20, times=times, time_base=Fraction(1, 10), container=copy_times, g="10")
        parts.append(path.read_bytes())
    path = tmp_path / "both.ts"
    path.write_bytes(b"".join(parts))
    return path


@pytest.mark.parametrize("second_s", [20, 40_000], ids=["starts again", "jumps"])
def test_recordings_glued_together_play_one_after_the_other(tmp_path: Path, second_s: int) -> None:
    path = two_clocks(tmp_path, second_s)
    with VideoReader(path) as reader:
        found = [(number_of(frame.image), frame.time_s) for frame in reader]
        assert [number for number, _ in found] == [*range(20), *range(20)]
        assert [time_s - reader.start_s for _, time_s in found] == [
            Fraction(i, 10) for i in range(40)
        ]
        assert "frame 20 (2.00 s) jumps" in reader.notes[0]
        assert reader.declared_num_frames is None  # ten hours, by the header
    assert_random_access_agrees(path, [39], [19, 20], [0])


def test_a_raw_stream_follows_its_own_rate(tmp_path: Path) -> None:
    path = encode(tmp_path / "clip.h264", 4, time_base=Fraction(1, 10))
    with VideoReader(path) as reader:
        assert (reader.frame_rate, reader.notes) == (10, [])
        assert [frame.time_s for frame in reader] == [Fraction(i, 10) for i in range(4)]


def test_a_guessed_rate_is_said(tmp_path: Path) -> None:
    path = encode(tmp_path / "clip.mjpeg", 4, codec="mjpeg", pixels="yuvj420p")
    with VideoReader(path) as reader:
        assert reader.frame_rate == 25
        assert reader.notes == ["the file states no frame rate: 25 frames per second assumed"]


# --- some frames, by number ----------------------------------------------------------------------

GROUPS = {
    "closed": ("clip.mp4", {"bf": "2", "g": "12"}),
    "open": ("clip.mp4", {"x264-params": "open-gop=1:keyint=12:bframes=3:b-adapt=0"}),
    "open in matroska": ("clip.mkv", {"x264-params": "open-gop=1:keyint=12:bframes=3:b-adapt=0"}),
    "intra refresh": ("clip.mkv", {"x264-params": "intra-refresh=1:keyint=12"}),
    "single": ("clip.mp4", {"g": "1000"}),
    "transport stream": ("clip.ts", {"bf": "2", "g": "12"}),
    "open hevc": ("clip.mp4", {"x265-params": "open-gop=1:keyint=12:log-level=0:pools=1"}),
    "avi": ("clip.avi", {"g": "12"}),
    "vp8": ("clip.webm", {"auto-alt-ref": "1", "lag-in-frames": "10", "cpu-used": "8", "g": "12"}),
    "vp9": ("clip.webm", {"deadline": "realtime", "cpu-used": "8", "g": "12"}),
}
CODECS = {"open hevc": "libx265", "avi": "mpeg4", "vp8": "libvpx", "vp9": "libvpx-vp9"}


@pytest.mark.parametrize("group", GROUPS)
def test_random_access_is_exact(tmp_path: Path, group: str) -> None:
    name, options = GROUPS[group]
    time_base = Fraction(1, 25) if name.endswith("avi") else Fraction(1001, 30000)
    path = encode(
        tmp_path / name, codec=CODECS.get(group, "libx264"), time_base=time_base, **options
    )
    backwards = list(range(39, -1, -3))
    shuffled = np.random.default_rng(1).permutation(40).tolist()
    assert_random_access_agrees(path, [0, 39], backwards, shuffled, [5, 5, 4, 5])


def test_seeking_decodes_a_group_of_pictures_not_the_whole_video(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = encode(tmp_path / "clip.mp4", g="10", bf="2")
    with VideoReader(path) as reader:
        monkeypatch.setattr(
            "sparsevod_core.video.random_access.decode_all",
            lambda *_: pytest.fail("decodes from the start"),
        )
        assert number_of(reader.frames_at([35])[0].image) == 35


def test_an_edit_list_shows_only_a_part(tmp_path: Path) -> None:
    """Trimmed as by phones: all frames are in the file, but playback starts at the twentieth."""
    path = encode(tmp_path / "clip.mp4", time_base=Fraction(1, 30000), times=TICKS, bf="0", g="10")
    content = path.read_bytes()
    edit = content.index(b"elst") + 12
    media_start = struct.pack(">i", TICKS[20])
    path.write_bytes(content[: edit + 4] + media_start + content[edit + 8 :])
    frames, _ = read(path)
    assert [number_of(frame.image) for frame in frames] == list(range(20, 40))
    assert_random_access_agrees(path, [7], [0, 19], [3])
    with VideoReader(path) as reader:
        assert reader.num_frames() == 20


TICKS = [1001 * i for i in range(40)]


@pytest.mark.parametrize(("asked", "message"), [([40], "only 40 frames"), ([3, -1], "frame -1")])
def test_missing_frames(tmp_path: Path, asked: list[int], message: str) -> None:
    with VideoReader(encode(tmp_path / "clip.mp4")) as reader:
        with pytest.raises(VideoError, match=message):
            reader.frames_at(asked)
        assert reader.frames_at([]) == []
        assert number_of(reader.frames_at([39])[0].image) == 39


# --- pixels --------------------------------------------------------------------------------------


def set_matrix(path: Path, a: int, b: int, c: int, d: int) -> None:
    """Overwrite the display matrix of the video track."""
    content = bytearray(path.read_bytes())
    at = content.index(b"tkhd") + 44
    for position, value in ((0, a), (4, b), (12, c), (16, d)):
        content[at + position : at + position + 4] = struct.pack(">i", value << 16)
    path.write_bytes(content)


TURNS = {
    "upright": ((1, 0, 0, 1), lambda image: image),
    "a quarter clockwise": ((0, 1, -1, 0), lambda image: np.rot90(image, -1)),
    "half": ((-1, 0, 0, -1), lambda image: np.rot90(image, 2)),
    "a quarter anticlockwise": ((0, -1, 1, 0), lambda image: np.rot90(image, 1)),
    "mirrored": ((-1, 0, 0, 1), lambda image: image[:, ::-1]),
    "flipped": ((1, 0, 0, -1), lambda image: image[::-1]),
    "transposed": ((0, 1, 1, 0), lambda image: image.transpose(1, 0, 2)),
}


@pytest.mark.parametrize("turn", TURNS)
def test_rotation_is_applied(tmp_path: Path, turn: str) -> None:
    path = encode(tmp_path / "clip.mp4", 3)
    stored = [frame.image for frame in read(path)[0]]
    matrix, expected = TURNS[turn]
    set_matrix(path, *matrix)
    with VideoReader(path) as reader:
        frames = list(reader)
        assert frames[0].image.shape == (reader.height, reader.width, 3)
        for frame, image in zip(frames, stored, strict=True):
            assert np.array_equal(frame.image, expected(image))
        assert frames[0].image.flags.c_contiguous
        assert np.array_equal(reader.frames_at([2])[0].image, frames[2].image)


@pytest.mark.parametrize("matrix", [1, 6], ids=["bt709", "bt601"])
@pytest.mark.parametrize("is_full", [False, True], ids=["limited", "full"])
@pytest.mark.parametrize("pixels", ["yuv420p", "yuv420p10le", "yuv444p"])
def test_colors_are_right_in_any_range_and_depth(
    tmp_path: Path, matrix: int, is_full: bool, pixels: str
) -> None:
    if is_full and av.__version__.startswith("14."):
        pytest.skip("PyAV 14 converts full-range video as if it were limited")
    wanted = np.array([200, 60, 30])
    depth = 10 if "10" in pixels else 8
    planes = yuv(wanted / 255, matrix, is_full, depth)
    path = tmp_path / "clip.mkv"
    with av.open(str(path), "w") as file:
        stream: Any = file.add_stream("libx264", rate=25, options={"qp": "1"})
        stream.width = stream.height = 32
        stream.pix_fmt = pixels
        for _ in range(2):
            frame = av.VideoFrame(32, 32, pixels)
            for plane, value in zip(frame.planes, planes, strict=True):
                kind = np.uint16 if depth == 10 else np.uint8
                plane.update(np.full(plane.buffer_size // kind().itemsize, value, kind).tobytes())
            frame.color_range, frame.colorspace = 2 if is_full else 1, matrix
            stream.codec_context.color_range = 2 if is_full else 1
            stream.codec_context.colorspace = matrix
            file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
    frames, _ = read(path)
    assert np.abs(frames[0].image[16, 16].astype(int) - wanted).max() <= 4


def pq(light: float) -> float:
    """Return the PQ signal of light relative to diffuse white (203 nits)."""
    power = (203 * light / 10_000) ** 0.1593017578125
    return ((0.8359375 + 18.8515625 * power) / (1 + 18.6875 * power)) ** 78.84375


def hlg(light: float) -> float:
    """Return the HLG signal of light relative to diffuse white (scene light of 0.265)."""
    scene = 0.265 * light
    bright = 0.17883277 * np.log(max(12 * scene - 0.28466892, 1e-9)) + 0.55991073
    return np.sqrt(3 * scene) if scene <= 1 / 12 else bright


# A red of BT.709 in BT.2020's primaries.
RED_IN_BT2020 = (0.6274, 0.0691, 0.0164)


@pytest.mark.parametrize(("transfer", "signal"), [(16, pq), (18, hlg)], ids=["pq", "hlg"])
@pytest.mark.parametrize(
    ("light", "expected"),
    [
        ((1.0,) * 3, (255,) * 3),
        ((0.18,) * 3, (118,) * 3),
        ((0.0,) * 3, (0,) * 3),
        ((5.0,) * 3, (255,) * 3),
        (RED_IN_BT2020, (253, 0, 0)),
    ],
    ids=["white", "gray", "black", "highlight", "red"],
)
def test_hdr_is_mapped_to_sdr(
    tmp_path: Path, transfer: int, signal: Any, light: tuple[float, ...], expected: tuple[int, ...]
) -> None:
    red, green, blue = (signal(value) for value in light)
    y = 0.2627 * red + 0.6780 * green + 0.0593 * blue
    planes = [64 + 876 * y, 512 + 896 * (blue - y) / 1.8814, 512 + 896 * (red - y) / 1.4746]
    path = tmp_path / "clip.mkv"
    with av.open(str(path), "w") as file:
        stream: Any = file.add_stream("libx265", rate=25)
        stream.options = {"x265-params": "log-level=error:lossless=1:pools=1"}
        stream.width, stream.height, stream.pix_fmt = 64, 32, "yuv444p10le"
        context = stream.codec_context
        context.colorspace, context.color_primaries, context.color_trc = 9, 9, transfer
        context.color_range = 1
        frame = av.VideoFrame(64, 32, "yuv444p10le")
        for plane, value in zip(frame.planes, planes, strict=True):
            plane.update(np.full(plane.buffer_size // 2, round(value), np.uint16).tobytes())
        file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
    ((frame,), _) = read(path)
    assert np.abs(frame.image[16, 16].astype(int) - expected).max() <= 4


def yuv(rgb: np.ndarray, matrix: int, is_full: bool, depth: int) -> list[int]:
    red_weight, blue_weight = {1: (0.2126, 0.0722), 6: (0.299, 0.114)}[matrix]
    y = np.dot(rgb, [red_weight, 1 - red_weight - blue_weight, blue_weight])
    cb, cr = (rgb[2] - y) / (2 - 2 * blue_weight), (rgb[0] - y) / (2 - 2 * red_weight)
    top, step = 2**depth - 1, 2 ** (depth - 8)
    values = (
        (y * top, cb * top + 128 * step, cr * top + 128 * step)
        if is_full
        else ((16 + 219 * y) * step, (128 + 224 * cb) * step, (128 + 224 * cr) * step)
    )
    return [round(float(value)) for value in values]


def test_odd_sizes(tmp_path: Path) -> None:
    path = encode(tmp_path / "clip.mp4", 3, size=(35, 21), pixels="yuv444p")
    with VideoReader(path) as reader:
        assert (reader.width, reader.height) == (35, 21)
        assert {frame.image.shape for frame in reader} == {(21, 35, 3)}


def test_a_stream_that_changes_its_size_is_scaled_to_the_first(tmp_path: Path) -> None:
    small = encode(tmp_path / "a.h264", 3, size=(64, 48), bf="0")
    large = encode(tmp_path / "b.h264", 3, size=(128, 96), bf="0")
    path = tmp_path / "both.h264"
    path.write_bytes(small.read_bytes() + large.read_bytes())
    frames, _ = read(path)
    assert [frame.image.shape for frame in frames] == [(48, 64, 3)] * 6
    assert [number_of(frame.image) for frame in frames] == [0, 1, 2, 0, 1, 2]


def test_pixels_that_are_not_square(tmp_path: Path) -> None:
    path = encode(tmp_path / "clip.mp4", 3, **{"x264-params": "sar=4/3"})
    with VideoReader(path) as reader:
        assert reader.pixel_aspect == Fraction(4, 3)
    set_matrix(path, 0, 1, -1, 0)
    with VideoReader(path) as reader:
        assert reader.pixel_aspect == Fraction(3, 4)


# --- broken files --------------------------------------------------------------------------------


@pytest.mark.parametrize("threads", [0, 1, 4])
def test_a_corrupt_packet_ends_the_video(tmp_path: Path, threads: int) -> None:
    path = encode(tmp_path / "clip.mp4", bf="0", g="10")
    with av.open(str(path)) as container:
        packets = list(container.demux(video=0))
    content = bytearray(path.read_bytes())
    at, size = packets[25].pos, packets[25].size
    assert at is not None
    content[at : at + size] = b"\xff" * size
    path.write_bytes(content)

    with VideoReader(path, threads=threads) as reader:
        numbers = []
        with pytest.raises(VideoError, match="breaks off after 25 frames") as caught:
            numbers.extend(number_of(frame.image) for frame in reader)
        assert numbers == list(range(25))
        assert str(path) in caught.value.message
        assert reader.declared_num_frames == 40
        assert reader.num_frames() == 25
        with pytest.raises(VideoError, match="only 25 frames"):
            reader.frames_at([26])
    with VideoReader(path, threads=threads) as reader:
        assert [number_of(f.image) for f in reader.frames_at([24, 3])] == [24, 3]
        with pytest.raises(VideoError, match="only 25 frames"):
            reader.frames_at([26])


@pytest.mark.parametrize("name", ["clip.mp4", "clip.mkv", "clip.avi", "clip.webm"])
def test_a_truncated_file_yields_its_frames_and_an_error(tmp_path: Path, name: str) -> None:
    codec = {"clip.avi": "mpeg4", "clip.webm": "libvpx-vp9"}.get(name, "libx264")
    time_base = Fraction(1, 25) if name == "clip.avi" else Fraction(1001, 30000)
    fast = {"deadline": "realtime", "cpu-used": "8"} if name == "clip.webm" else {}
    index_first = {"movflags": "+faststart"} if name == "clip.mp4" else {}
    path = encode(
        tmp_path / name, codec=codec, time_base=time_base, g="10", container=index_first, **fast
    )
    with av.open(str(path)) as container:
        packet = list(container.demux(video=0))[30]
    assert packet.pos is not None
    path.write_bytes(path.read_bytes()[: packet.pos + packet.size // 2])
    frames, error = read(path)
    assert 25 <= len(frames) <= 31
    assert [number_of(frame.image) for frame in frames[:25]] == list(range(25))
    assert error is not None
    assert f"after {len(frames)} frames" in error.message
    with VideoReader(path) as reader:
        assert reader.num_frames() == len(frames)
    assert_random_access_agrees(path, [9, 2, len(frames) - 1])


CUT = {  # name: codec, muxer, options of the muxer
    "moov last.mp4": ("libx264", "mp4", {}),
    "fragments.mp4": ("libx264", "mp4", {"movflags": "+frag_keyframe+empty_moov"}),
    "clip.mkv": ("libx264", "matroska", {}),
    "clip.webm": ("libvpx", "webm", {}),
    "clip.ts": ("libx264", "mpegts", {}),
    "clip.m2ts": ("libx264", "mpegts", {"mpegts_m2ts_mode": "1"}),
    "clip.avi": ("mpeg4", "avi", {}),
    "clip.flv": ("flv", "flv", {}),
    "clip.ogg": ("libvpx", "ogg", {}),
    "clip.mxf": ("mpeg2video", "mxf", {}),
    "clip.vob": ("mpeg2video", "vob", {}),
    "clip.mpg": ("mpeg1video", "mpeg", {}),
    "clip.wmv": ("wmv2", "asf", {}),
    "clip.gif": ("gif", "gif", {}),
}


@pytest.mark.parametrize("name", CUT)
def test_every_container_that_is_cut_off_says_so(tmp_path: Path, name: str) -> None:
    codec, muxer, options = CUT[name]
    path = tmp_path / name
    with av.open(str(path), "w", format=muxer, options=options) as file:
        stream: Any = file.add_stream(codec, rate=25)
        stream.width, stream.height = WIDTH, HEIGHT
        stream.pix_fmt = "rgb8" if codec == "gif" else "yuv420p"
        for number in range(40):
            file.mux(stream.encode(av.VideoFrame.from_ndarray(draw_number(number), format="rgb24")))
        file.mux(stream.encode(None))
    frames, error = read(path)
    assert (len(frames), error) == (40, None)
    content = path.read_bytes()
    for part in (0.3, 0.7):
        path.write_bytes(content[: int(part * len(content))])
        try:
            frames, error = read(path)
        except VideoError as no_frame:
            error = no_frame
        else:
            assert 0 < len(frames) <= 40
            assert VideoReader(path).num_frames() == len(frames)
        assert error is not None
        assert re.search("cut off|declares|incomplete|Invalid data", error.message)


def test_damage_that_does_not_end_the_video_is_said(tmp_path: Path) -> None:
    path = encode(tmp_path / "clip.ts", g="10", bf="0")
    content = bytearray(path.read_bytes())
    middle = len(content) // 2 // 188 * 188
    content[middle : middle + 5 * 188] = bytes(5 * 188)
    path.write_bytes(content)
    with VideoReader(path) as reader:
        frames = list(reader)
        assert 20 < len(frames) <= 40
        assert "the file is damaged in 1 place" in reader.notes[-1]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"%PDF-1.7\n" + bytes(100), "a PDF document"),
        (b"PK\x03\x04" + bytes(100), "a ZIP archive"),
        (b"<!DOCTYPE html>\n<html>", "a web page"),
        (b"version https://git-lfs.github.com/spec/v1\n", "a Git LFS pointer"),
        (b"a.mp4\nb.mp4\n", "a text file"),
        (bytes(5000), "nothing but zero bytes"),
        (b"\0\0\0\x18ftypheic" + bytes(100), "a HEIF, AVIF or raw photo"),
    ],
)
def test_a_file_that_is_no_video_is_called_what_it_is(
    tmp_path: Path, content: bytes, says: str
) -> None:
    (tmp_path / "clip.mp4").write_bytes(content)
    with pytest.raises(VideoError, match=says):
        VideoReader(tmp_path / "clip.mp4")


def test_a_long_last_frame_is_not_a_break(tmp_path: Path) -> None:
    times = [0, 40, 80, 4000, 8000]
    for name in ("clip.mp4", "clip.mkv"):
        path = encode(tmp_path / name, len(times), times=times, time_base=MS)
        assert read(path)[1] is None


def write_audio(path: Path) -> Path:
    with av.open(str(path), "w") as file:
        stream: Any = file.add_stream("pcm_s16le", rate=8000)
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 8000), np.int16), layout="mono")
        sound.sample_rate = 8000
        file.mux(stream.encode(sound))
        file.mux(stream.encode(None))
    return path


def test_files_that_are_not_videos(tmp_path: Path) -> None:
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "text.mp4").write_text("not a video\n" * 100)
    no_index = encode(tmp_path / "no_index.mp4")
    no_index.write_bytes(no_index.read_bytes().partition(b"moov")[0])
    sound = write_audio(tmp_path / "sound.wav")
    for path, message in {
        tmp_path / "missing.mp4": "No such file",
        tmp_path / "empty.mp4": "empty",
        tmp_path / "text.mp4": "cannot open as a video",
        no_index: r"without its index \(moov\): it was cut off",
        tmp_path: "got a folder",
        sound: "no video stream",
    }.items():
        with pytest.raises(VideoError, match=message) as caught:
            VideoReader(path)
        assert str(path) in caught.value.message


def test_a_playlist_cannot_reach_the_network(tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    path.write_text("#EXTM3U\n#EXTINF:1,\nhttp://127.0.0.1:9/secret.ts\n#EXT-X-ENDLIST\n")
    with pytest.raises(VideoError):
        VideoReader(path)


@pytest.mark.parametrize("name", ["-dash.mp4", "rtsp:clip.mp4", "50%d.mp4", "été 视频.mp4"])
def test_odd_names(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = encode(tmp_path / "clip.mp4", 3)
    plain.rename(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    assert len(read(Path(name))[0]) == 3


# --- real files ----------------------------------------------------------------------------------

REAL = {  # name: frames that decode, width, height, last time in seconds
    "car-detection.mp4": (377, 768, 432, Fraction(752, 25)),
    "bikes.mp4": (250, 640, 272, Fraction(249, 25)),
    "corrupted.mp4": (28, 1280, 720, Fraction(27, 10)),
    "video_90.mov": (3, 320, 568, Fraction(1, 15)),
    "no_duration.webm": (74, 1280, 720, Fraction(4872, 1000)),
    "av1_video.mkv": (125, 640, 360, Fraction(124, 25)),
    "h265_10bits.mp4": (30, 200, 200, Fraction(29, 30)),
    "transparent.webm": (150, 200, 200, Fraction(4967, 1000)),
    "flipping_a_pancake.mkv": (310, 426, 240, Fraction(103, 10)),
    "smpte-2997.mp4": (251, 1920, 1080, Fraction(10)),
    "-dash-1x1.mp4": (5, 1, 1, Fraction(4)),
}


@pytest.mark.parametrize("name", REAL)
def test_real_video(shared_dir: Path, name: str) -> None:
    num_frames, width, height, last_s = REAL[name]
    path = shared_dir / "data" / "videos" / name
    wanted = [num_frames // 2, num_frames - 1, 0, num_frames // 3]
    frames: dict[int, Frame] = {}
    with VideoReader(path) as reader:
        assert (reader.width, reader.height) == (width, height)
        try:
            for frame in reader:
                frames[frame.index] = frame if frame.index in wanted else frames.get(0, frame)
        except VideoError as error:
            assert name == "corrupted.mp4"
            assert "breaks off after 28 frames" in error.message
        assert len(frames) == num_frames
        assert frames[num_frames - 1].time_s == last_s
        for frame in reader.frames_at(wanted):
            assert np.array_equal(frame.image, frames[frame.index].image)
            assert frame.time_s == frames[frame.index].time_s
        assert reader.num_frames() == num_frames


@pytest.mark.parametrize("name", ["zero_bytes.webm", "audio_only.mp3"])
def test_real_file_without_video(shared_dir: Path, name: str) -> None:
    with pytest.raises(VideoError, match=r"empty|no video stream"):
        VideoReader(shared_dir / "data" / "videos" / name)


def test_real_annotated_videos_have_the_frames_that_the_annotations_count(shared_dir: Path) -> None:
    import json

    drones = shared_dir / "data" / "drones"
    content = json.loads((drones / "val.json").read_text())
    videos = {video["id"]: video["file_name"] for video in content["videos"]}
    for id_, file in list(videos.items())[:4]:
        ids = [image["frame_id"] for image in content["images"] if image["video_id"] == id_]
        with VideoReader(drones / file) as reader:
            assert reader.num_frames() >= max(ids) + 1
            assert reader.frames_at([max(ids)])[0].image.shape == (512, 640, 3)
