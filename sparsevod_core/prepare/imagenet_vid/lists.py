"""Reads the lists that FGFA published and everyone trains with, wherever in the tree they lie."""

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
    """A video as listed: numbers of the frames that are named, and its length."""

    name: str
    length: int
    numbers: set[int] = field(default_factory=set)


def read_snippet_list(path: Path, problems: list[str]) -> dict[str, Snippet]:
    """The snippets by name without the year; a line is `name 1 number length`.

    Raises:
        DataError: a line that cannot be read, or a name that leaves the tree. What is listed twice
            is only named in `problems`.
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
            problems.append(f"{place}: {name} has {length} frames, and {snippet.length} before")
        if number in snippet.numbers:
            problems.append(f"{place}: frame {number} of {name} is listed twice")
        snippet.numbers.add(number)
    return snippets


def read_list(path: Path, *, num_words: int) -> Iterator[tuple[str, list[str]]]:
    """The words of each line with its place; the first word is a name that stays in the tree.

    Raises:
        DataError: another number of words, or a name that leaves the tree.
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
    """Where a list of this name lies; None where there is none."""
    places = (root / folder / name for folder in _LIST_FOLDERS)
    return next((place for place in places if place.is_file()), None)


def without_year(name: str) -> str:
    """The same for a tree and a list of different years."""
    return _YEAR.sub("ILSVRC", name)
