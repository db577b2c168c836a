"""Size of an image file of any kind from its header, without decoding the pixels."""

from __future__ import annotations

from pathlib import Path

from sparsevod_core.errors import DataError
from sparsevod_core.prepare.jpeg_size import read_jpeg_size

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")
"""Of files that are taken for frames."""


def read_image_size(path: Path) -> tuple[int, int]:
    """(height, width) in pixels as stored, whatever an EXIF orientation says.

    What the file is decides, not its name: a PNG called `.jpg` is common and can be read.

    Raises:
        DataError: missing, unreadable, or not an image.
    """
    try:
        with path.open("rb") as file:
            is_jpeg = file.read(2) == b"\xff\xd8"
    except OSError as error:
        raise DataError(f"{path}: cannot read the frame: {error.strerror}") from error
    return read_jpeg_size(path) if is_jpeg else _size_by_pillow(path)


def _size_by_pillow(path: Path) -> tuple[int, int]:
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as image:  # reads the header only
            width, height = image.size
    except UnidentifiedImageError as error:
        raise DataError(f"{path}: not an image that can be read") from error
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise DataError(f"{path}: not an image that can be read: {error}") from error
    return height, width
