"""Image files, and their sizes without decoding: ImageNet VID has 1.3 million JPEGs."""

from __future__ import annotations

import os
import struct
from pathlib import Path

from sparsevod_core.errors import DataError
from sparsevod_core.prepare.reading.file_bytes import READ_FLAGS
from sparsevod_core.video.kinds import IMAGE_SUFFIXES

# Start-of-frame markers C0..CF hold the size; C4, C8 and CC are tables (ITU-T T.81, table B.1).
_START_OF_FRAME = frozenset(range(0xFFC0, 0xFFD0)) - {0xFFC4, 0xFFC8, 0xFFCC}
_START_OF_SCAN = 0xFFDA
_FILL_BYTE = 0xFFFF
_two_shorts = struct.Struct(">HH").unpack_from
_READ_BYTES = 1024
"""Enough for nearly every file; a size behind a long EXIF block or profile takes another read."""


def image_files(folder: Path) -> list[Path]:
    """Return the images in a folder, sorted by name; none if there is no such folder."""
    paths = folder.iterdir() if folder.is_dir() else ()
    return sorted(path for path in paths if path.suffix.lower() in IMAGE_SUFFIXES)


def read_image_size(path: Path) -> tuple[int, int]:
    """Return (height, width) in pixels as stored, ignoring any EXIF orientation.

    The type is taken from the content, not from the name: a PNG called `.jpg` is common.

    Raises:
        DataError: The file is missing, unreadable, or not an image.
    """
    try:
        with path.open("rb") as file:
            is_jpeg = file.read(2) == b"\xff\xd8"
    except OSError as error:
        raise _cannot_read(path, error) from error
    return read_jpeg_size(path) if is_jpeg else _size_by_pillow(path)


def read_jpeg_size(path: str | os.PathLike[str]) -> tuple[int, int]:
    """Return (height, width) of a JPEG in pixels as stored, ignoring any EXIF orientation.

    Raises:
        DataError: The file is unreadable, or not a JPEG whose header has a size.
    """
    try:
        file = os.open(path, READ_FLAGS)
        try:
            size = _find_size(file)
        finally:
            os.close(file)
    except OSError as error:
        raise _cannot_read(path, error) from error
    if size is None or 0 in size:
        raise DataError(f"{path}: not a JPEG, or its header is cut off")
    return size


def _find_size(file: int) -> tuple[int, int] | None:
    """Search the open file marker by marker."""
    start, head = 0, os.pread(file, _READ_BYTES, 0)
    if head[:2] != b"\xff\xd8":
        return None
    at = 2
    while True:
        if at + 9 > len(head):  # marker, length, precision, height, width
            start, at = start + at, 0
            head = os.pread(file, _READ_BYTES, start)
            if len(head) < 9:
                return None
        marker, length = _two_shorts(head, at)
        if marker in _START_OF_FRAME:
            return _two_shorts(head, at + 5)
        if marker == _FILL_BYTE:
            at += 1
        elif marker < 0xFF00 or marker == _START_OF_SCAN or length < 2:
            return None
        else:
            at += 2 + length


def _size_by_pillow(path: Path) -> tuple[int, int]:
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as image:  # reads only the header
            width, height = image.size
    except UnidentifiedImageError as error:
        raise DataError(f"{path}: not an image that can be read") from error
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise DataError(f"{path}: not an image that can be read: {error}") from error
    return height, width


def _cannot_read(path: str | os.PathLike[str], error: OSError) -> DataError:
    return DataError(f"{path}: cannot read the frame: {error.strerror}")
