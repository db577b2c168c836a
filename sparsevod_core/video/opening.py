"""From a source to its frames, whatever it is."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from tempfile import NamedTemporaryFile
from typing import TypeAlias

from sparsevod_core.errors import VideoError
from sparsevod_core.reporting import Reporter
from sparsevod_core.video.image_folder import ImageFolder
from sparsevod_core.video.live import LiveStream
from sparsevod_core.video.reader import VideoReader
from sparsevod_core.video.sources import Source

OpenVideo: TypeAlias = VideoReader | ImageFolder | LiveStream
"""They are read alike; see `VideoReader`."""


def open_source(
    source: Source,
    *,
    duration_s: float | None = None,
    patience_s: float = 10.0,
    reporter: Reporter | None = None,
) -> AbstractContextManager[OpenVideo]:
    """The frames of `source`; `duration_s` and `patience_s` are for live ones, see `LiveStream`.

    stdin is copied to a temporary file first: support frames are looked for in the whole video.

    Raises:
        VideoError: as `VideoReader`, `ImageFolder` and `LiveStream` say.
    """
    if source.is_live:
        return LiveStream(source, duration_s=duration_s, patience_s=patience_s, reporter=reporter)
    if source.kind == "images":
        return ImageFolder(source.place)
    return _stdin() if source.kind == "stdin" else VideoReader(source.place)


@contextmanager
def _stdin() -> Iterator[VideoReader]:
    with NamedTemporaryFile(prefix="sparsevod-stdin-") as file:
        try:
            shutil.copyfileobj(sys.stdin.buffer, file, 2**20)
            file.flush()
        except OSError as error:
            raise VideoError(f"stdin: cannot copy it to {file.name}: {error.strerror}") from error
        try:
            reader = VideoReader(file.name)
        except VideoError as error:
            raise VideoError(error.message.replace(file.name, "stdin"), error.hint) from error
        with reader:
            yield reader
