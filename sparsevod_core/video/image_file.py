"""Decoding of image files, refused by their headers if they are too large for memory."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from sparsevod_core.errors import SparseVodError, VideoError
from sparsevod_core.input_file import read_limited
from sparsevod_core.pixel_limit import max_pixels, pillow_image, require_few_pixels

_BYTES_PER_PIXEL = 8  # of uncompressed 16-bit RGBA, the largest supported kind
_OTHER_BYTES = 2**26  # for headers and profiles

_JPEG_START, _PNG_START = b"\xff\xd8", b"\x89PNG\r\n\x1a\n"
# Start-of-frame markers C0..CF hold the size; C4, C8 and CC are tables (ITU-T T.81, table B.1).
_START_OF_FRAME = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_START_OF_SCAN = 0xDA
_WITHOUT_LENGTH = frozenset((0x00, 0x01, *range(0xD0, 0xDA)))


def read_image(
    path: Path, error: type[SparseVodError] = VideoError, hint: str | None = None
) -> UInt8[np.ndarray, "H W 3"]:
    """Return RGB pixels 0..255, upright, without alpha, scaled to 8 bits.

    Args:
        path: path of the image.
        error: class of the errors.
        hint: hint of the error for a file that cannot be read.

    Raises:
        SparseVodError: `error`, for a file that cannot be read or decoded, or with more pixels than
            `pixel_limit` allows.
    """
    import cv2
    from PIL.Image import DecompressionBombError

    try:
        encoded = read_limited(path, _BYTES_PER_PIXEL * max_pixels() + _OTHER_BYTES, error)
    except OSError as cause:
        raise error(f"{path}: cannot read the image: {cause.strerror}", hint) from cause
    try:
        size = _size_in_header(encoded)
    except DecompressionBombError as cause:
        raise error(f"{path}: {cause}") from cause
    if size is None:
        raise error(f"{path}: cannot decode the image ({len(encoded):,} bytes): not an image")
    require_few_pixels(path, *size, error)
    try:
        bgr = cv2.imdecode(np.frombuffer(encoded, dtype=np.uint8), cv2.IMREAD_COLOR)
    except cv2.error:
        bgr = None
    if bgr is None:
        raise error(f"{path}: cannot decode the image ({len(encoded):,} bytes)")
    return cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB)


def _size_in_header(encoded: bytes) -> tuple[int, int] | None:
    """Return (width, height), None if the bytes are not an image.

    Raises:
        DecompressionBombError: Pillow refuses the size.
    """
    if encoded.startswith(_JPEG_START):
        return _jpeg_size(encoded)
    if encoded.startswith(_PNG_START):
        return int.from_bytes(encoded[16:20]), int.from_bytes(encoded[20:24])
    return _size_by_pillow(encoded)


def _jpeg_size(encoded: bytes) -> tuple[int, int] | None:
    """Return the size in the first frame header, found as libjpeg does: bytes between are skipped.

    Pillow takes ten times as long, about as long as decoding a small image.
    """
    at = len(_JPEG_START)
    while 0 <= (at := encoded.find(b"\xff", at)) < len(encoded) - 8:
        marker = encoded[at + 1]
        if marker == 0xFF:
            at += 1
        elif marker in _WITHOUT_LENGTH:
            at += 2
        elif marker in _START_OF_FRAME:
            height, width = encoded[at + 5 : at + 7], encoded[at + 7 : at + 9]
            return int.from_bytes(width), int.from_bytes(height)
        elif marker == _START_OF_SCAN:
            return None
        else:
            at += 2 + int.from_bytes(encoded[at + 2 : at + 4])
    return None


def _size_by_pillow(encoded: bytes) -> tuple[int, int] | None:
    try:
        with pillow_image().open(io.BytesIO(encoded)) as image:  # reads only the header
            return image.size
    except (OSError, ValueError, SyntaxError):
        return None
