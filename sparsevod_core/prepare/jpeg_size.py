"""Size of a JPEG from its header, without decoding it: ImageNet VID has 1.3 million of them."""

from __future__ import annotations

import os
import struct

from sparsevod_core.errors import DataError
from sparsevod_core.prepare.file_bytes import open_to_read

# Start-of-frame markers C0..CF hold the size; C4, C8 and CC are tables (ITU-T T.81, table B.1).
_START_OF_FRAME = frozenset(range(0xFFC0, 0xFFD0)) - {0xFFC4, 0xFFC8, 0xFFCC}
_START_OF_SCAN = 0xFFDA
_FILL_BYTE = 0xFFFF
_two_shorts = struct.Struct(">HH").unpack_from
_READ_BYTES = 1024
"""Holds the size of nearly every file; what lies behind a long EXIF or profile is read there."""


def read_jpeg_size(path: str | os.PathLike[str]) -> tuple[int, int]:
    """(height, width) in pixels as stored, whatever an EXIF orientation says.

    Raises:
        DataError: unreadable, or no JPEG header with a size.
    """
    try:
        file = open_to_read(path)
        try:
            size = _find_size(file)
        finally:
            os.close(file)
    except OSError as error:
        raise DataError(f"{path}: cannot read the frame: {error.strerror}") from error
    if size is None or 0 in size:
        raise DataError(f"{path}: not a JPEG, or its header is cut off")
    return size


def _find_size(file: int) -> tuple[int, int] | None:
    """Walks from marker to marker in the open file."""
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
