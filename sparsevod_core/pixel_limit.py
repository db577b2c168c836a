"""Limit on the pixels of a frame: an image of a few kilobytes can declare a million megapixels."""

from __future__ import annotations

import os
from types import ModuleType

from sparsevod_core.errors import ConfigError, SparseVodError

MAX_PIXELS = 178_956_970
"""Maximum width x height of an image or video; the same as Pillow's, 0.5 GB as RGB."""
VARIABLE = "SPARSEVOD_MAX_PIXELS"
"""Environment variable with another maximum."""


def max_pixels() -> int:
    """Return the maximum number of pixels of a frame.

    Raises:
        ConfigError: the environment variable is not a positive number.
    """
    text = os.environ.get(VARIABLE)
    if not text:
        return MAX_PIXELS
    if not (text.isascii() and text.isdigit() and len(text) <= 12 and int(text)):
        raise ConfigError(f"{VARIABLE}={text[:40]}: expected a number of pixels, e.g. {MAX_PIXELS}")
    return int(text)


def pillow_image() -> ModuleType:
    """Return the module `PIL.Image`, whose own limit is lifted if this one is."""
    from PIL import Image

    if max_pixels() > MAX_PIXELS:
        Image.MAX_IMAGE_PIXELS = None
    return Image


def require_few_pixels(
    path: str | os.PathLike[str], width: int, height: int, error: type[SparseVodError]
) -> None:
    """Raise `error` if a frame of this size exceeds the limit; call it before decoding."""
    limit = max_pixels()
    if width * height > limit:
        raise error(
            f"{path}: expected at most {limit:,} pixels, got {width}x{height}",
            hint=f"set the environment variable {VARIABLE} to {width * height} if you trust it",
        )
