"""Size of a JPEG from its header."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from sparsevod_core.errors import DataError
from sparsevod_core.prepare.reading.image_size import read_jpeg_header


def jpeg(height: int, width: int, *options: int) -> bytes:
    encoded = cv2.imencode(".jpg", np.full((height, width, 3), 90, np.uint8), list(options))[1]
    return bytes(encoded)


def with_segment(data: bytes, marker: int, content: bytes) -> bytes:
    """Insert a segment right after the start of the image, where EXIF and profiles are."""
    length = (len(content) + 2).to_bytes(2, "big")
    return data[:2] + bytes([0xFF, marker]) + length + content + data[2:]


PLAIN = jpeg(23, 41)


@pytest.mark.parametrize(
    "data",
    [
        PLAIN,
        jpeg(23, 41, cv2.IMWRITE_JPEG_PROGRESSIVE, 1),
        jpeg(23, 41, cv2.IMWRITE_JPEG_RST_INTERVAL, 1),
        with_segment(PLAIN, 0xE1, b"Exif\x00\x00" + jpeg(5, 5)),  # a thumbnail of another size
        with_segment(with_segment(PLAIN, 0xE2, b"p" * 60_000), 0xE2, b"q" * 60_000),
        PLAIN[:2] + b"\xff\xff" + PLAIN[2:],  # fill bytes
        PLAIN[: len(PLAIN) // 2 + 100],
    ],
    ids=["plain", "progressive", "restarts", "thumbnail", "profiles", "filled", "cut pixels"],
)
def test_size(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "a.JPEG").write_bytes(data)
    assert read_jpeg_header(tmp_path / "a.JPEG") == (23, 41, 1)


@pytest.mark.parametrize(
    "data",
    [b"", b"\xff\xd8", PLAIN[:100], b"\x89PNG\r\n\x1a\n" + b"\0" * 50, b"\xff\xd8\xff\xe0\x00\x00"],
    ids=["empty", "start only", "cut header", "png", "segment of no length"],
)
def test_other_files_are_named(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "a.JPEG").write_bytes(data)
    with pytest.raises(DataError, match=r"a\.JPEG: not a JPEG"):
        read_jpeg_header(tmp_path / "a.JPEG")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"b\.JPEG: cannot read the frame: No such file"):
        read_jpeg_header(tmp_path / "b.JPEG")
