"""What a user may name as a video: files, patterns, folders of images, lists, stdin, streams."""

from __future__ import annotations

import glob
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from sparsevod_core.errors import ConfigError, VideoError
from sparsevod_core.video.image_folder import is_image, natural_order

STREAM_SCHEMES = ("rtsp", "rtsps", "rtmp", "http", "https", "tcp", "udp", "srt")
_URL = re.compile(r"([a-z][a-z0-9+.-]*)://", re.IGNORECASE)
_MAX_LIST_BYTES = 16 * 2**20


@dataclass(frozen=True, slots=True)
class Source:
    """A video to be read.

    Attributes:
        kind: `file`, `images` (a folder), `stdin`, `camera` or `stream`. The last two have no end,
            and only their newest frame counts.
        place: path, URL, or number of the camera.
    """

    kind: Literal["file", "images", "stdin", "camera", "stream"]
    place: str

    @property
    def is_live(self) -> bool:
        """Whether frames come when they like, without an end: only past ones can be supports."""
        return self.kind in ("camera", "stream")

    @property
    def stem(self) -> str:
        """A name for files that are made of it."""
        if self.kind in ("file", "images"):
            return Path(self.place).stem if self.kind == "file" else Path(self.place).name
        if self.kind == "stdin":
            return "stdin"
        return re.sub(r"[^A-Za-z0-9.-]+", "_", _without_password(self.place)).strip("_.")

    def __str__(self) -> str:
        return _without_password(self.place) if self.kind == "stream" else self.place


def find_sources(words: Iterable[str]) -> list[Source]:
    """The videos that `words` name, in order, each once.

    A word is, in this order: `-` (stdin); a URL; a file; a folder, which is one video where it
    holds images, else all the files in it; `@FILE`, a text file with a word a line, whose relative
    paths start from its own folder; a pattern with `*`, `?`, `[...]` or `**`; a number (a camera).

    Raises:
        ConfigError: a URL of another kind, or a list that names a list.
        VideoError: what is not there, a folder without a file, or a list that cannot be read.
    """
    found = [source for word in words for source in _sources(word)]
    return list(dict.fromkeys(found))


def _sources(word: str) -> Iterator[Source]:
    if word == "-":
        yield Source("stdin", word)
    elif scheme := _URL.match(word):
        if scheme[1].lower() not in STREAM_SCHEMES:
            raise ConfigError(
                f"{_without_password(word)}: {scheme[1]}:// is not read",
                hint=f"a file's path, or one of {', '.join(f'{s}://' for s in STREAM_SCHEMES)}",
            )
        yield Source("stream", word)
    elif (path := Path(word)).is_dir():
        yield from _of_folder(path)
    elif path.exists():
        yield Source("file", word)
    elif word.startswith("@"):
        yield from _of_list(Path(word[1:]))
    elif glob.has_magic(word):
        # Path.glob takes no absolute pattern.
        matches = sorted(glob.glob(word, recursive=True), key=natural_order)  # noqa: PTH207
        if not matches:
            raise VideoError(f"{word}: no file matches")
        for match in matches:
            yield from _of_folder(Path(match)) if Path(match).is_dir() else [Source("file", match)]
    elif word.isascii() and word.isdigit():
        yield Source("camera", word)
    else:
        raise VideoError(f"{word}: No such file or folder")


def _of_folder(folder: Path) -> Iterator[Source]:
    """One video where there are images; else every file, which then has to be a video."""
    files = sorted(
        (path for path in folder.iterdir() if path.is_file() and not path.name.startswith(".")),
        key=lambda path: natural_order(path.name),
    )
    if any(map(is_image, files)):
        yield Source("images", str(folder))
    elif files:
        yield from (Source("file", str(path)) for path in files)
    else:
        raise VideoError(f"{folder}: no files in the folder")


def _of_list(path: Path) -> Iterator[Source]:
    """Blank lines and those that start with # are left out."""
    try:
        if path.stat().st_size > _MAX_LIST_BYTES:
            raise VideoError(f"{path}: too large for a list of videos")
        lines = path.read_text("utf-8").splitlines()
    except OSError as error:
        raise VideoError(f"{path}: cannot read the list: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise VideoError(f"{path}: not a text file: a list has a path or URL a line") from error
    for number, line in enumerate(map(str.strip, lines), start=1):
        if not line or line.startswith("#"):
            continue
        if line.startswith("@") or line == "-":
            raise ConfigError(f"{path}, line {number}: {line} cannot stand in a list")
        is_path = not (_URL.match(line) or line.isdigit() or Path(line).is_absolute())
        try:
            yield from _sources(str(path.parent / line) if is_path else line)
        except (ConfigError, VideoError) as error:
            where = f"{path}, line {number}: {error.message}"
            raise type(error)(where, error.hint) from error


def _without_password(url: str) -> str:
    """Names and passwords of cameras have no place in logs and file names."""
    return re.sub(r"(://)[^/@]*@", r"\1", url)
