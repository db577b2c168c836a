"""Opening a source as footage: the interface of all videos, whatever their frames come from."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Protocol, TypeAlias

from sparsevod_core.errors import VideoError
from sparsevod_core.reporting import Reporter
from sparsevod_core.structures import Frame
from sparsevod_core.video.animated_webp import AnimatedWebp, is_animated_webp
from sparsevod_core.video.image_folder import ImageFolder
from sparsevod_core.video.live import LiveStream
from sparsevod_core.video.reader import VideoReader
from sparsevod_core.video.sources import Source


class Footage(Protocol):
    """Frames of one video, numbered from 0: all that a detector needs."""

    def num_frames(self) -> int:
        """Return the number of frames."""

    def frames_at(self, indices: Sequence[int]) -> list[Frame]:
        """Return the frames of these numbers, in this order."""

    def __iter__(self) -> Iterator[Frame]:
        """Yield all frames in order."""


OpenVideo: TypeAlias = VideoReader | AnimatedWebp | ImageFolder | LiveStream
"""Footage that also has a size, a frame rate and a clock, see `VideoReader`."""


def open_source(
    source: Source,
    *,
    duration_s: float | None = None,
    patience_s: float = 10.0,
    reporter: Reporter | None = None,
) -> AbstractContextManager[OpenVideo]:
    """Open a source.

    stdin is copied to a temporary file first, because support frames come from the entire video.

    Args:
        source: Source to open.
        duration_s, patience_s, reporter: Options for live sources, see `LiveStream`.

    Raises:
        VideoError: As by `VideoReader`, `ImageFolder` and `LiveStream`.
    """
    if source.is_live:
        return LiveStream(source, duration_s=duration_s, patience_s=patience_s, reporter=reporter)
    if source.kind == "images":
        return ImageFolder(source.place)
    return _stdin() if source.kind == "stdin" else open_file(source.place)


def open_file(path: Path | str) -> VideoReader | AnimatedWebp:
    """Open a video file.

    Raises:
        VideoError: As by `VideoReader` and `AnimatedWebp`.
    """
    return AnimatedWebp(path) if is_animated_webp(Path(path)) else VideoReader(path)


@contextmanager
def _stdin() -> Iterator[VideoReader | AnimatedWebp]:
    with NamedTemporaryFile(prefix="sparsevod-stdin-") as file:
        try:
            shutil.copyfileobj(sys.stdin.buffer, file, 2**20)
            file.flush()
        except OSError as error:
            raise VideoError(f"stdin: cannot copy it to {file.name}: {error.strerror}") from error
        try:
            reader = open_file(file.name)
        except VideoError as error:
            raise VideoError(error.message.replace(file.name, "stdin"), error.hint) from error
        with reader:
            yield reader
