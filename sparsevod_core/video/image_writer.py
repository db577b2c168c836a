"""Writer of RGB frames as numbered images."""

from __future__ import annotations

import io
import re
from fractions import Fraction
from pathlib import Path
from types import TracebackType

import numpy as np
from jaxtyping import UInt8

from sparsevod_core.errors import ConfigError
from sparsevod_core.files.new_folder import NewFolder

FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP"}
_NUMBER = re.compile(r"%0?(\d*)d")


def is_pattern(path: Path) -> bool:
    """Return True if a path is a pattern for numbered images, such as `frames/%06d.png`."""
    return path.suffix.lower() in FORMATS and bool(_NUMBER.search(path.name))


def images_folder(path: Path) -> Path:
    """Return the folder of a pattern.

    Raises:
        ConfigError: The pattern has no folder.
    """
    if path.parent == Path():
        raise ConfigError(
            f"{path}: expected a folder for the images", hint=f"use e.g. frames/{path.name}"
        )
    return path.parent


class ImageWriter:
    """Folder with an image for each frame, numbered from 0.

    Use it as a context manager, like `VideoWriter`; the folder appears when it is complete.

    Args:
        path: Pattern for the images: `frames/%06d.png`, .jpg or .webp.
        width, height: Size of the frames in pixels.
        is_own: See `NewFolder`.

    Raises:
        ConfigError: The pattern has no folder, or the folder is not empty.
        DataError: The folder cannot be written.
    """

    def __init__(self, path: Path, width: int, height: int, *, is_own: bool = False) -> None:
        self.path = path
        self.size = self.padded_size = width, height
        self._format = FORMATS[path.suffix.lower()]
        self._folder = NewFolder(images_folder(path), is_own=is_own)
        self._count = 0
        self.notes: list[str] = []

    def __enter__(self) -> ImageWriter:
        return self

    def write(self, image: UInt8[np.ndarray, "H W 3"], time_s: Fraction | None = None) -> None:
        """Append one RGB frame; `time_s` is ignored.

        Raises:
            DataError: The image cannot be written.
        """
        from PIL import Image

        content = io.BytesIO()
        quality = {} if self._format == "PNG" else {"quality": 92}
        Image.fromarray(image).save(content, self._format, **quality)
        digits = int(_NUMBER.search(self.path.name)[1] or 0)  # type: ignore[index]
        name = _NUMBER.sub(f"{self._count:0{digits}d}", self.path.name, count=1)
        self._folder.write(name, content.getvalue())
        self._count += 1

    def finish(self, *, truncated: bool) -> None:
        """Do nothing: no file depends on the end of the video."""

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._folder.__exit__(kind, error, traceback)
