"""Opening a source as footage: the interface of all videos, whatever their frames come from."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol, TypeAlias

from sparsevod_core.reporting import Reporter
from sparsevod_core.structures import Frame
from sparsevod_core.video.animated_webp import AnimatedWebp, is_animated_webp
from sparsevod_core.video.image_folder import ImageFolder
from sparsevod_core.video.live import LiveStream
from sparsevod_core.video.reader import VideoReader
from sparsevod_core.video.sources import Source
from sparsevod_core.video.stdin import open_stdin


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
    return open_stdin(open_file) if source.kind == "stdin" else open_file(source.place)


def open_file(path: Path | str) -> VideoReader | AnimatedWebp:
    """Open a video file.

    Raises:
        VideoError: As by `VideoReader` and `AnimatedWebp`.
    """
    return AnimatedWebp(path) if is_animated_webp(Path(path)) else VideoReader(path)
