"""Image files: pixels as OpenCV decodes them, and bombs refused before decoding."""

from __future__ import annotations

import os
import resource
import struct
import zlib
from io import BytesIO
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from PIL import Image

from sparsevod_core.errors import ConfigError, DataError, VideoError
from sparsevod_core.video.image_file import read_image
from sparsevod_core.video.reader import VideoReader


def chunk(kind: bytes, content: bytes) -> bytes:
    return (
        struct.pack(">I", len(content))
        + kind
        + content
        + struct.pack(">I", zlib.crc32(kind + content))
    )


def png_bomb(side: int) -> bytes:
    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    rows = zlib.compress(bytes(side * 3 + 1) * 1000)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
    )


def jpeg_bomb() -> bytes:
    file = BytesIO()
    Image.new("RGB", (8, 8)).save(file, "JPEG")
    small = file.getvalue()
    at = small.index(b"\xff\xc0") + 5
    return small[:at] + struct.pack(">HH", 65_500, 65_500) + small[at + 4 :]


def bmp_bomb() -> bytes:
    header = struct.pack("<2sIHHI", b"BM", 54, 0, 0, 54)
    return header + struct.pack("<IiiHHIIiiII", 40, 60_000, 60_000, 1, 24, 0, 0, 0, 0, 0, 0)


@pytest.mark.parametrize(
    ("content", "size"),
    [(png_bomb(30_000), "30000x30000"), (jpeg_bomb(), "65500x65500"), (bmp_bomb(), "3600000000")],
)
def test_bombs_are_refused_before_decoding(content: bytes, size: str, tmp_path: Path) -> None:
    path = tmp_path / "1.png"
    path.write_bytes(content)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(VideoError, match=rf"1\.png: .*{size}"):
        read_image(path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # KiB


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".bmp", ".webp", ".tif", ".ppm"])
def test_the_limit_is_a_setting(
    suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / f"1{suffix}"
    image = np.random.default_rng(0).integers(0, 256, (30, 40, 3), np.uint8)
    cv2.imwrite(str(path), image)
    monkeypatch.setenv("SPARSEVOD_MAX_PIXELS", "1199")
    with pytest.raises(DataError, match="expected at most 1,199 pixels, got 40x30") as caught:
        read_image(path, DataError)
    assert "SPARSEVOD_MAX_PIXELS to 1200" in str(caught.value.hint)
    monkeypatch.setenv("SPARSEVOD_MAX_PIXELS", "1200")
    np.testing.assert_array_equal(read_image(path), cv2.imread(str(path))[..., ::-1])
    monkeypatch.setenv("SPARSEVOD_MAX_PIXELS", "lots")
    with pytest.raises(ConfigError, match="SPARSEVOD_MAX_PIXELS=lots: expected a number"):
        read_image(path)


def test_bytes_between_the_segments_of_a_jpeg(tmp_path: Path) -> None:
    file = BytesIO()
    Image.new("RGB", (40, 30), "red").save(file, "JPEG", comment=b"\xff\xc0" * 8)
    content = file.getvalue()
    (tmp_path / "1.jpg").write_bytes(content[:20] + b"\0\1\2\xff\xff" + content[20:])
    assert read_image(tmp_path / "1.jpg").shape == (30, 40, 3)


def test_an_image_must_be_a_regular_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "1.png")
    with pytest.raises(VideoError, match=r"1\.png: expected a file, got a named pipe"):
        read_image(tmp_path / "1.png")


def test_frames_of_videos_have_the_same_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.mpg"
    path.write_bytes(mpeg(96, 64) + mpeg(480, 320))
    monkeypatch.setenv("SPARSEVOD_MAX_PIXELS", "6143")
    with pytest.raises(VideoError, match=r"a\.mpg: expected at most 6,143 pixels, got 96x64"):
        VideoReader(path)
    monkeypatch.setenv("SPARSEVOD_MAX_PIXELS", "100000")  # FFmpeg adds a margin
    with VideoReader(path) as reader, pytest.raises(VideoError, match="breaks off after"):
        assert [frame.image.shape for frame in reader] == []


def mpeg(width: int, height: int) -> bytes:
    file = BytesIO()
    with av.open(file, "w", format="mpeg2video") as container:
        stream = container.add_stream("mpeg2video", 25)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for _ in range(4):
            image = np.zeros((height, width, 3), np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, "rgb24")))
        container.mux(stream.encode(None))
    return file.getvalue()
