"""The lists of videos and images that FGFA published and that everyone trains with."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from sparsevod_core.errors import DataError

_LIST_FOLDERS = ("ImageSets", "ImageSets/VID", "Lists")
SNIPPET_LISTS = {"train": "VID_train_15frames.txt", "val": "VID_val_videos.txt"}
STILLS_LIST = "DET_train_30classes.txt"
_YEAR = re.compile(r"ILSVRC20\d\d")


@dataclass(slots=True)
class Snippet:
    """A listed video: its name, its number of frames, and the frame numbers in the list."""

    name: str
    length: int
    numbers: set[int] = field(default_factory=set)


def read_snippet_list(path: Path, problems: list[str]) -> dict[str, Snippet]:
    """Return the snippets by name without the year; a line is `name 1 number length`.

    Repeated or contradictory entries are only reported in `problems`.

    Raises:
        DataError: A line cannot be parsed, or a name leads out of the tree.
    """
    snippets: dict[str, Snippet] = {}
    for place, words in read_list(path, num_words=4):
        if not all(word.isascii() and word.isdigit() and len(word) < 10 for word in words[2:]):
            raise DataError(
                f"{place}: expected `name 1 frame length`, got {' '.join(words)[:80]!r}"
            )
        name, number, length = words[0], int(words[2]), int(words[3])
        snippet = snippets.setdefault(without_year(name), Snippet(name, length))
        if length != snippet.length:
            problems.append(f"{place}: {name} has {length} frames, but {snippet.length} before")
        if number in snippet.numbers:
            problems.append(f"{place}: frame {number} of {name} is listed twice")
        snippet.numbers.add(number)
    return snippets


def read_list(path: Path, *, num_words: int) -> Iterator[tuple[str, list[str]]]:
    """Yield the place and the words of each line; the first word is a name within the tree.

    Raises:
        DataError: A line has another number of words, or a name leads out of the tree.
    """
    with path.open(encoding="utf-8", errors="replace") as file:
        for number, line in enumerate(file, start=1):
            words = line.split()
            if not words:
                continue
            place = f"{path}:{number}"
            if len(words) != num_words:
                raise DataError(f"{place}: expected {num_words} words, got {line.strip()[:80]!r}")
            if words[0].startswith("/") or ".." in words[0].split("/"):
                raise DataError(f"{place}: the name {words[0][:80]!r} leaves the data set's folder")
            yield place, words


def find_list(root: Path, name: str) -> Path | None:
    """Return the path of a list in the tree, None if it is missing."""
    paths = (root / folder / name for folder in _LIST_FOLDERS)
    return next((path for path in paths if path.is_file()), None)


def without_year(name: str) -> str:
    """Return the name without its year, so that a list matches a tree of another year."""
    return _YEAR.sub("ILSVRC", name)
