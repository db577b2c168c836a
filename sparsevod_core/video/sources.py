"""Sources of videos: files, patterns, folders of images, lists, stdin, streams and cameras."""

from __future__ import annotations

import codecs
import glob
import os
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from os.path import realpath
from pathlib import Path
from typing import Literal

from sparsevod_core.errors import ConfigError, VideoError
from sparsevod_core.input_file import read_limited
from sparsevod_core.reporting import Reporter, SilentReporter, counted, some_of
from sparsevod_core.video.image_folder import natural_order
from sparsevod_core.video.kinds import is_image, is_video

STDIN = ("-", "/dev/stdin")
STREAM_SCHEMES = ("rtsp", "rtsps", "rtmp", "http", "https", "tcp", "udp", "srt")
_URL = re.compile(r"([a-z][a-z0-9+.-]*)://", re.IGNORECASE)
_MAX_LIST_BYTES = 16 * 2**20
_CONTROL = re.compile(r"[\x00-\x08\x0e-\x1f]")
_END_OF_LINE = re.compile(r"\r\n|\r|\n")
_QUOTED = re.compile(r"""(?:file\s+)?(["'])(.+)\1""")  # `file 'a.mp4'`: FFmpeg's lists
_NAMED = 5


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
    def is_path(self) -> bool:
        """Whether `place` is the path of a file or folder."""
        return self.kind in ("file", "images")

    @property
    def is_live(self) -> bool:
        """Whether frames arrive in real time, so that only past ones can be support frames."""
        return self.kind in ("camera", "stream")

    @property
    def stem(self) -> str:
        """Name for output files."""
        if self.is_path:
            path = Path(os.path.abspath(self.place))  # noqa: PTH100  # also for the folder "."
            return path.stem if self.kind == "file" else path.name
        if self.kind == "stdin":
            return "stdin"
        return re.sub(r"[^A-Za-z0-9.-]+", "_", _without_password(self.place)).strip("_.")

    def __str__(self) -> str:
        return _without_password(self.place) if self.kind == "stream" else self.place


def find_sources(words: Iterable[str], reporter: Reporter | None = None) -> list[Source]:
    """Return the videos given by `words`, in order, without duplicates.

    A word is interpreted as the first of these that fits: `-` (stdin); a URL; a file; a folder, see
    below; `@FILE`, a text file with a word per line and paths relative to it; a pattern with `*`,
    `?`, `[...]` or `**`; a number (a camera).

    A folder stands for its video files. Without any, its images are one video. With neither, each
    of its files is opened as a video.

    Args:
        words: Words as given by the user.
        reporter: Receives a message about the files of a folder that are skipped.

    Raises:
        ConfigError: An unsupported URL, or a list inside a list.
        VideoError: Something that does not exist, an empty folder, or a list that cannot be read.
    """
    reporter = reporter or SilentReporter()
    found = [source for word in words for source in _sources(word, reporter)]
    return list(dict.fromkeys(found))


def _sources(word: str, reporter: Reporter) -> Iterator[Source]:
    if word in STDIN:
        yield Source("stdin", "-")
    elif scheme := _URL.match(word):
        if scheme[1].lower() not in STREAM_SCHEMES:
            raise ConfigError(
                f"{_without_password(word)}: {scheme[1]}:// is not supported",
                hint=f"use a path, or one of {', '.join(f'{s}://' for s in STREAM_SCHEMES)}",
            )
        yield Source("stream", word)
    elif _is_there(word, Path.is_dir):
        yield from _of_folder(Path(word), reporter)
    elif _is_there(word):
        yield Source("file", word)
    elif word.startswith("@"):
        yield from _of_list(Path(word[1:]), reporter)
    elif glob.has_magic(word):
        matches = _matches(word)
        if not matches:
            raise VideoError(f"{word}: no file matches")
        for match in matches:
            if _is_there(match, Path.is_dir):
                yield from _of_folder(Path(match), reporter)
            else:
                yield Source("file", match)
    elif word.isascii() and word.isdigit():
        yield Source("camera", word)
    else:
        raise VideoError(f"{word}: {_why_not_there(word)}")


def _is_there(word: str, is_kind: Callable[[Path], bool] = Path.exists) -> bool:
    """Return False also for what cannot be a path, such as a very long word."""
    try:
        return is_kind(Path(word))
    except (OSError, ValueError):
        return False


def _matches(pattern: str) -> list[str]:
    """Return the files that match a pattern, each once: links may lead back to a folder above."""
    # Path.glob does not accept absolute patterns.
    found = glob.glob(pattern, recursive=True)  # noqa: PTH207
    by_file = {realpath(match): match for match in sorted(found, key=len, reverse=True)}
    matches = by_file.values() if "**" in pattern else found
    return sorted(matches, key=natural_order)


def _of_folder(folder: Path, reporter: Reporter) -> Iterator[Source]:
    """Yield the videos of a folder, see `find_sources`."""
    try:
        entries = [path for path in folder.iterdir() if not path.name.startswith(".")]
    except OSError as error:
        raise VideoError(f"{folder}: cannot read the folder: {error.strerror}") from error
    entries.sort(key=lambda path: natural_order(path.name))
    files = [path for path in entries if path.is_file()]
    videos = [path for path in files if is_video(path.name)]
    has_images = any(is_image(path.name) for path in files)
    if not files:
        inside = " (it has only folders)" if any(map(Path.is_dir, entries)) else ""
        raise VideoError(
            f"{folder}: the folder is empty{inside}",
            hint=f"use '{folder}/**/*.mp4' to find videos in its subfolders" if inside else None,
        )
    if not videos and has_images:
        yield Source("images", str(folder))
        return
    videos = videos or files
    yield from (Source("file", str(path)) for path in videos)
    skipped = [path.name for path in entries if path not in videos and not path.is_dir()]
    if skipped:
        hint = "; images are one video only in a folder without videos" if has_images else ""
        reporter.message(
            f"{folder}: skipping {counted(len(skipped), 'file')} without a video suffix: "
            f"{some_of(skipped, _NAMED)}{hint}"
        )


def _of_list(path: Path, reporter: Reporter) -> Iterator[Source]:
    """Yield the videos of a list; blank lines and lines that start with # are skipped."""
    is_empty = True
    for number, line in enumerate(_lines(path), start=1):
        if not line or line.startswith("#"):
            continue
        if line.startswith("@") or line in STDIN:
            raise ConfigError(f"{path}, line {number}: {line} is not allowed in a list")
        is_empty = False
        words = [_from_list(path, spelling) for spelling in _spellings(line)]
        word = next((word for word in words if _is_there(word) or _has_matches(word)), words[0])
        try:
            yield from _sources(word, reporter)
        except (ConfigError, VideoError) as error:
            where = f"{path}, line {number}: {error.message}"
            raise type(error)(where, error.hint) from error
    if is_empty:
        raise VideoError(f"{path}: expected one path or URL per line, got none")


def _lines(path: Path) -> list[str]:
    """Return the lines of a list in UTF-8 or UTF-16, or else in Latin-1."""
    try:
        content = read_limited(path, _MAX_LIST_BYTES, VideoError)
    except OSError as error:
        raise VideoError(f"{path}: cannot read the list: {error.strerror}") from error
    is_utf16 = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        try:
            text = content.decode("utf-16" if is_utf16 else "utf-8-sig")
        except UnicodeDecodeError:
            text = "\0" if is_utf16 else content.decode("cp1252")
    except UnicodeDecodeError:
        text = "\0"
    if _CONTROL.search(text):
        raise VideoError(
            f"{path}: expected a text file with one path or URL per line",
            hint="save the list as UTF-8",
        )
    return [line.strip() for line in _END_OF_LINE.split(text)]


def _spellings(line: str) -> Iterator[str]:
    """Yield a line as it is, and as other systems write it: with quotes or backslashes."""
    yield line
    quoted = _QUOTED.fullmatch(line)
    if quoted:
        yield quoted[2]
    yield (quoted[2] if quoted else line).replace("\\", "/")


def _from_list(path: Path, line: str) -> str:
    """Return a word of a list, a path relative to the list's folder if it is one."""
    is_path = not (_URL.match(line) or line.isdigit() or Path(line).is_absolute())
    return str(path.parent / line) if is_path else line


def _has_matches(word: str) -> bool:
    return glob.has_magic(word) and next(glob.iglob(word, recursive=True), None) is not None  # noqa: PTH207


def _why_not_there(word: str) -> str:
    try:
        Path(word).lstat()
    except FileNotFoundError:
        return "no such file or folder"
    except (OSError, ValueError) as error:
        return f"cannot open it: {getattr(error, 'strerror', None) or error}"
    return "a link to a file that does not exist"


def _without_password(url: str) -> str:
    """Remove user name and password, which must not appear in logs and file names."""
    return re.sub(r"(://)[^/@]*@", r"\1", url)
