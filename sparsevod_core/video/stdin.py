"""A video from stdin, which is copied to a file first: support frames come from all of it."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from tempfile import TemporaryFile
from typing import IO

from sparsevod_core.errors import ConfigError, VideoError
from sparsevod_core.video.animated_webp import AnimatedWebp
from sparsevod_core.video.decode import open_container
from sparsevod_core.video.reader import VideoReader

MAX_BYTES = 16 * 2**30
"""Maximum number of bytes that are copied."""
VARIABLE = "SPARSEVOD_MAX_STDIN_BYTES"
"""Environment variable with another maximum."""

_CHUNK_BYTES = 2**20
_BOXES = (b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"styp", b"pnot")  # of MP4 and MOV


@contextmanager
def open_stdin(
    open_file: Callable[[str], VideoReader | AnimatedWebp],
) -> Iterator[VideoReader | AnimatedWebp]:
    """Copy stdin to a file without a name, which nothing leaves behind, and open it as a video.

    Args:
        open_file: Opens a file as a video.

    Raises:
        ConfigError: The environment variable is not a number.
        VideoError: Not a video, larger than the maximum, or the copy cannot be written.
    """
    limit = _limit()
    if sys.stdin is None:
        raise VideoError("stdin: cannot read it: it is closed")
    with TemporaryFile(prefix="sparsevod-stdin-") as file:
        try:
            _copy(sys.stdin.buffer, file, limit)
            file.flush()
        except OSError as error:
            raise VideoError(f"stdin: cannot copy it to a file: {error.strerror}") from error
        name = f"/proc/self/fd/{file.fileno()}"
        try:
            with open_file(name) as reader:
                yield reader
        except VideoError as error:
            raise VideoError(error.message.replace(name, "stdin"), error.hint) from error


def _copy(source: IO[bytes], target: IO[bytes], limit: int) -> None:
    size = 0
    while chunk := source.read(_CHUNK_BYTES):
        if size == 0:
            _require_video(chunk)
        size += len(chunk)
        if size > limit:
            raise VideoError(
                f"stdin: expected at most {limit:,} bytes, got more",
                hint=f"write the video to a file, or set the environment variable {VARIABLE}",
            )
        target.write(chunk)


def _require_video(start: bytes) -> None:
    """Raise a VideoError if FFmpeg does not recognize the first bytes of a video."""
    if start[4:8] in _BOXES:  # the index, without which FFmpeg opens nothing, may be at the end
        return
    if start.startswith(b"RIFF") and start[8:12] == b"WEBP":  # not by FFmpeg
        return
    try:
        open_container(io.BytesIO(start)).close()
    except Exception as error:  # PyAV raises errors of many kinds on arbitrary bytes
        raise VideoError(
            f"stdin: not a video: it starts with {start[:16]!r}",
            hint="write it to a file if you think that it is one",
        ) from error


def _limit() -> int:
    text = os.environ.get(VARIABLE) or str(MAX_BYTES)
    if not (text.isascii() and text.isdigit() and len(text) <= 18 and int(text)):
        raise ConfigError(f"{VARIABLE}={text[:40]}: expected a number of bytes, e.g. {MAX_BYTES}")
    return int(text)
