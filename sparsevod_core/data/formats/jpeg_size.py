"""Size of a JPEG from its header, without decoding it: ImageNet VID has 1.3 million of them."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

from sparsevod_core.errors import DataError

# Start-of-frame markers C0..CF hold the size; C4, C8 and CC are tables (ITU-T T.81, table B.1).
_START_OF_FRAME = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_START_OF_SCAN = 0xDA


def read_jpeg_size(path: Path) -> tuple[int, int]:
    """(height, width) in pixels as stored, whatever an EXIF orientation says.

    Raises:
        DataError: unreadable, or no JPEG header with a size.
    """
    try:
        with path.open("rb") as file:
            size = _find_size(file)
    except OSError as error:
        raise DataError(f"{path}: cannot read the frame: {error.strerror}") from error
    if size is None or 0 in size:
        raise DataError(f"{path}: not a JPEG, or its header is cut off")
    return size


def _find_size(file: BinaryIO) -> tuple[int, int] | None:
    if file.read(2) != b"\xff\xd8":
        return None
    while True:
        header = file.read(4)
        if len(header) < 4 or header[0] != 0xFF:
            return None
        marker = header[1]
        if marker == 0xFF:  # a fill byte before the marker
            file.seek(-3, 1)
            continue
        if marker == _START_OF_SCAN:
            return None
        if marker in _START_OF_FRAME:
            frame = file.read(5)  # precision, height, width
            if len(frame) < 5:
                return None
            return int.from_bytes(frame[1:3], "big"), int.from_bytes(frame[3:5], "big")
        length = int.from_bytes(header[2:4], "big")
        if length < 2:
            return None
        file.seek(length - 2, 1)
