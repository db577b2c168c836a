"""Sources of videos: files, patterns, folders of images, lists, stdin, streams and cameras."""

from __future__ import annotations

import glob
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from sparsevod_core.errors import ConfigError, VideoError
from sparsevod_core.input_file import read_limited
from sparsevod_core.video.image_folder import is_image, natural_order

STREAM_SCHEMES = ("rtsp", "rtsps", "rtmp", "http", "https", "tcp", "udp", "srt")
_URL = re.compile(r"([a-z][a-z0-9+.-]*)://", re.IGNORECASE)
_MAX_LIST_BYTES = 16 * 2**20


@dataclass(frozen=True, slots=True)
class Source:
    """A video to read.

    Attributes:
        kind: `file`, `images` (a folder), `stdin`, `camera` or `stream`.
        place: Path, URL, or number of the camera.
    """

    kind: Literal["file", "images", "stdin", "camera", "stream"]
    place: str

    @property
    def is_live(self) -> bool:
        """Whether frames arrive in real time, so that only past ones can be support frames."""
        return self.kind in ("camera", "stream")

    @property
    def stem(self) -> str:
        """Name for output files."""
        if self.kind in ("file", "images"):
            return Path(self.place).stem if self.kind == "file" else Path(self.place).name
        if self.kind == "stdin":
            return "stdin"
        return re.sub(r"[^A-Za-z0-9.-]+", "_", _without_password(self.place)).strip("_.")

    def __str__(self) -> str:
        return _without_password(self.place) if self.kind == "stream" else self.place


def find_sources(words: Iterable[str]) -> list[Source]:
    """Return the videos given by `words`, in order, without duplicates.

    A word is interpreted as the first of these that fits: `-` (stdin); a URL; a file; a folder (one
    video if it contains images, else all its files); `@FILE`, a text file with a word per line and
    paths relative to it; a pattern with `*`, `?`, `[...]` or `**`; a number (a camera).

    Raises:
        ConfigError: An unsupported URL, or a list inside a list.
        VideoError: Something that does not exist, an empty folder, or a list that cannot be read.
    """
    found = [source for word in words for source in _sources(word)]
    return list(dict.fromkeys(found))


def _sources(word: str) -> Iterator[Source]:
    if word in ("-", "/dev/stdin"):
        yield Source("stdin", "-")
    elif scheme := _URL.match(word):
        if scheme[1].lower() not in STREAM_SCHEMES:
            raise ConfigError(
                f"{_without_password(word)}: {scheme[1]}:// is not supported",
                hint=f"use a path, or one of {', '.join(f'{s}://' for s in STREAM_SCHEMES)}",
            )
        yield Source("stream", word)
    elif (path := Path(word)).is_dir():
        yield from _of_folder(path)
    elif path.exists():
        yield Source("file", word)
    elif word.startswith("@"):
        yield from _of_list(Path(word[1:]))
    elif glob.has_magic(word):
        # Path.glob does not accept absolute patterns.
        matches = sorted(glob.glob(word, recursive=True), key=natural_order)  # noqa: PTH207
        if not matches:
            raise VideoError(f"{word}: no file matches")
        for match in matches:
            yield from _of_folder(Path(match)) if Path(match).is_dir() else [Source("file", match)]
    elif word.isascii() and word.isdigit():
        yield Source("camera", word)
    else:
        raise VideoError(f"{word}: no such file or folder")


def _of_folder(folder: Path) -> Iterator[Source]:
    """Yield the folder if it contains images, otherwise every file, each of them a video."""
    files = sorted(
        (path for path in folder.iterdir() if path.is_file() and not path.name.startswith(".")),
        key=lambda path: natural_order(path.name),
    )
    if any(map(is_image, files)):
        yield Source("images", str(folder))
    elif files:
        yield from (Source("file", str(path)) for path in files)
    else:
        raise VideoError(f"{folder}: the folder is empty")


def _of_list(path: Path) -> Iterator[Source]:
    """Yield the videos of a list; blank lines and lines that start with # are skipped."""
    try:
        content = read_limited(path, _MAX_LIST_BYTES, VideoError)
        lines = content.decode().splitlines()
    except OSError as error:
        raise VideoError(f"{path}: cannot read the list: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise VideoError(f"{path}: expected a text file with one path or URL per line") from error
    for number, line in enumerate(map(str.strip, lines), start=1):
        if not line or line.startswith("#"):
            continue
        if line.startswith("@") or line == "-":
            raise ConfigError(f"{path}, line {number}: {line} is not allowed in a list")
        is_path = not (_URL.match(line) or line.isdigit() or Path(line).is_absolute())
        try:
            yield from _sources(str(path.parent / line) if is_path else line)
        except (ConfigError, VideoError) as error:
            where = f"{path}, line {number}: {error.message}"
            raise type(error)(where, error.hint) from error


def _without_password(url: str) -> str:
    """Remove user name and password, which must not appear in logs and file names."""
    return re.sub(r"(://)[^/@]*@", r"\1", url)
