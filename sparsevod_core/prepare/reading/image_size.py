"""Sizes of image files without decoding: ImageNet VID has 1.3 million JPEGs.

Labeling tools show pictures upright, as their EXIF orientation asks, so the upright picture is the
frame everywhere.
"""

from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from sparsevod_core.errors import DataError
from sparsevod_core.input_file import require_regular_file
from sparsevod_core.pixel_limit import pillow_image, require_few_pixels
from sparsevod_core.prepare.reading.annotated import Box
from sparsevod_core.prepare.reading.file_bytes import READ_FLAGS, read_up_to
from sparsevod_core.video.image_file import read_image

if TYPE_CHECKING:
    from PIL import Image

# Start-of-frame markers C0..CF hold the size; C4, C8 and CC are tables (ITU-T T.81, table B.1).
_START_OF_FRAME = frozenset(range(0xFFC0, 0xFFD0)) - {0xFFC4, 0xFFC8, 0xFFCC}
_START_OF_SCAN = 0xFFDA
_FILL_BYTE = 0xFFFF
_two_shorts = struct.Struct(">HH").unpack_from
_APP1 = 0xFFE1
_ORIENTATION = 0x0112
# EXIF orientations (Exif 2.32, tag 274) that exchange x and y, and that then mirror x or y.
_TRANSPOSED, _MIRRORED_X, _MIRRORED_Y = (5, 6, 7, 8), (2, 3, 6, 7), (3, 4, 7, 8)
_READ_BYTES = 1024
"""Enough for nearly every file; a size behind a long EXIF block or profile takes another read."""


def read_image_size(path: Path) -> tuple[int, int]:
    """Return (height, width) in pixels of the upright image, as every decoder here returns it.

    The type is taken from the content, not from the name: a PNG called `.jpg` is common.

    Raises:
        DataError: The file is missing, unreadable, or not an image.
    """
    require_regular_file(path, DataError)
    try:
        is_jpeg = read_up_to(path, 2) == b"\xff\xd8"
    except OSError as error:
        raise _cannot_read(path, error) from error
    if not is_jpeg:
        return _size_by_pillow(path)
    return read_jpeg_header(path).upright_size


def size_problem(path: Path, size: tuple[int, int], stated: tuple[int, int], where: str) -> str:
    """Return the problem of an image whose labels at `where` state another (height, width)."""
    height, width = stated
    problem = f"{path}: {size[1]}x{size[0]} pixels, but {where} {width}x{height}"
    if size == (width, height) and _is_turned(path):
        # Some tools draw on the stored image. Others draw on the upright one, and convert the boxes
        # with the stored size. Nothing tells which.
        problem += (
            ", the size without its EXIF orientation, so the boxes may lie anywhere (turn the "
            "pixels upright and label again, or remove the orientation if the tool ignored it)"
        )
    return problem


class JpegHeader(NamedTuple):
    """Size in pixels as stored, and EXIF orientation (1 to 8; 1: upright, or not given)."""

    height: int
    width: int
    orientation: int

    @property
    def upright_size(self) -> tuple[int, int]:
        """Height and width of the upright image."""
        is_transposed = self.orientation in _TRANSPOSED
        return (self.width, self.height) if is_transposed else (self.height, self.width)

    def upright(self, box_xyxy: Box) -> Box:
        """Return where a box of the stored image lies in the upright one."""
        left, top, right, bottom = box_xyxy
        height, width = self.upright_size
        if self.orientation in _TRANSPOSED:
            left, top, right, bottom = top, left, bottom, right
        if self.orientation in _MIRRORED_X:
            left, right = width - right, width - left
        if self.orientation in _MIRRORED_Y:
            top, bottom = height - bottom, height - top
        return left, top, right, bottom


def read_jpeg_header(path: str | os.PathLike[str]) -> JpegHeader:
    """Return size and orientation of a JPEG.

    Raises:
        DataError: The file is unreadable, or not a JPEG whose header has a size.
    """
    try:
        file = os.open(path, READ_FLAGS)
        try:
            header = _find_header(file)
        finally:
            os.close(file)
    except OSError as error:
        raise _cannot_read(path, error) from error
    if header is None or 0 in header:
        raise DataError(f"{path}: not a JPEG, or its header is cut off")
    require_few_pixels(path, header.width, header.height, DataError)
    return header


def _find_header(file: int) -> JpegHeader | None:
    """Search the open file marker by marker."""
    start, head = 0, os.pread(file, _READ_BYTES, 0)
    if head[:2] != b"\xff\xd8":
        return None
    at, orientation = 2, None
    while True:
        if at + 9 > len(head):  # marker, length, precision, height, width
            start, at = start + at, 0
            head = os.pread(file, _READ_BYTES, start)
            if len(head) < 9:
                return None
        marker, length = _two_shorts(head, at)
        if marker in _START_OF_FRAME:
            height, width = _two_shorts(head, at + 5)
            return JpegHeader(height, width, orientation or 1)
        if marker == _FILL_BYTE:
            at += 1
        elif marker < 0xFF00 or marker == _START_OF_SCAN or length < 2:
            return None
        else:
            if marker == _APP1 and orientation is None:
                orientation = _orientation(os.pread(file, length - 2, start + at + 4))
            at += 2 + length


def _orientation(segment: bytes) -> int | None:
    """Return the orientation in an EXIF segment; None if it is of another kind, or broken."""
    order = {b"MM": ">", b"II": "<"}.get(segment[6:8])
    if segment[:6] != b"Exif\0\0" or order is None:
        return None
    tiff = segment[6:]
    try:
        magic, start = struct.unpack_from(f"{order}HI", tiff, 2)
        (num_tags,) = struct.unpack_from(f"{order}H", tiff, start)
        for number in range(num_tags if magic == 42 else 0):  # TIFF 6.0, section 2
            tag, value = struct.unpack_from(f"{order}H6xH", tiff, start + 2 + 12 * number)
            if tag == _ORIENTATION:
                return value if value in range(1, 9) else 1
    except struct.error:
        return None
    return 1


def _is_turned(path: Path) -> bool:
    """Return True if EXIF exchanges the width and height of an image."""
    from PIL import Image

    try:
        with Image.open(path) as image:
            return _is_transposed(image)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return False


def _is_transposed(image: Image.Image) -> bool:
    # Pillow would decode all of a PNG to look for EXIF behind the pixels.
    has_exif = image.format != "PNG" or "exif" in image.info
    return has_exif and image.getexif().get(_ORIENTATION) in _TRANSPOSED


def _size_by_pillow(path: Path) -> tuple[int, int]:
    from PIL import Image, UnidentifiedImageError

    require_regular_file(path, DataError)
    try:
        with pillow_image().open(path) as image:  # reads only the header
            width, height = image.size
            require_few_pixels(path, width, height, DataError)
            is_transposed = _is_transposed(image)
    except UnidentifiedImageError as error:
        raise DataError(f"{path}: not an image that can be read") from error
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise DataError(f"{path}: not an image that can be read: {error}") from error
    if is_transposed:  # which formats are turned depends on the versions of OpenCV and Pillow
        height, width = read_image(path, DataError).shape[:2]
    return height, width


def _cannot_read(path: str | os.PathLike[str], error: OSError) -> DataError:
    return DataError(f"{path}: cannot read the frame: {error.strerror}")
