"""Identity of a source's content, by which results are known to be of this source."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from sparsevod_core.errors import VideoError
from sparsevod_core.video.kinds import is_image
from sparsevod_core.video.sources import Source

_NUM_BLOCKS, _BLOCK_BYTES = 64, 2**16  # of a video file
_NUM_IMAGES, _NUM_IMAGE_BLOCKS, _IMAGE_BLOCK_BYTES = 256, 4, 2**14


def fingerprint(source: Source) -> str | None:
    """Return a text that differs for different videos, wherever they are; None for stdin.

    A file is identified by its size and 64 blocks of 64 KiB, from its start to its end, so that
    long videos are not read twice. A folder is identified by the names and sizes of its images and
    by blocks of at most 256 of them, a stream or camera by its address. Times of files do not
    count, as copies get new ones.

    Raises:
        VideoError: The source cannot be read.
    """
    if source.kind == "stdin":
        return None
    if source.is_live:
        return str(source)
    path, content = Path(source.place), hashlib.sha256()
    try:
        if source.kind == "file" and not path.is_file():
            return None  # a pipe can be read only once
        for part in _parts_of_images(path) if source.kind == "images" else _parts_of_file(path):
            content.update(part)
    except OSError as error:
        raise VideoError(f"{source}: cannot read: {error.strerror}") from error
    return content.hexdigest()[:16]


def _parts_of_file(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        yield f"{file.seek(0, os.SEEK_END)}\n".encode()
        yield from _blocks(file, _NUM_BLOCKS, _BLOCK_BYTES)


def _parts_of_images(folder: Path) -> Iterator[bytes]:
    with os.scandir(folder) as entries:
        images = [entry for entry in entries if is_image(entry.name)]
        sizes = {image.name: image.stat().st_size for image in images if image.is_file()}
    for name, size in sorted(sizes.items()):
        yield f"{size} {name}\n".encode(errors="surrogateescape")
    for name in sorted(sizes)[:: len(sizes) // _NUM_IMAGES + 1]:
        with (folder / name).open("rb") as file:
            yield from _blocks(file, _NUM_IMAGE_BLOCKS, _IMAGE_BLOCK_BYTES)


def _blocks(file: BinaryIO, count: int, num_bytes: int) -> Iterator[bytes]:
    """Yield blocks from the start to the end of a file, which are all of a small file."""
    last = max(file.seek(0, os.SEEK_END) - num_bytes, 0)
    for start in sorted({last * number // (count - 1) for number in range(count)}):
        file.seek(start)
        yield file.read(num_bytes)
