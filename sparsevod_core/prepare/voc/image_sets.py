"""Splits of Pascal VOC's lists, `ImageSets/Main/train.txt` and so on.

A line is the name of an image without its suffix, or of the folder of a video. `trainval.txt` is
for sets that are not divided further. Lists such as `car_train.txt` are of one class.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath

from sparsevod_core.prepare.reading.file_tree import FileTree, SplitOf, split_by_folder
from sparsevod_core.prepare.reading.split_names import IMAGE_FOLDERS, SPLIT_OF_WORD
from sparsevod_core.prepare.reading.split_places import SplitPlaces, without_suffix
from sparsevod_core.prepare.reading.text_file import read_text
from sparsevod_core.video.kinds import IMAGE_SUFFIXES

_SPLIT_OF = SPLIT_OF_WORD | {"trainval": "all"}
_FOLDERS = ("ImageSets/Main", "ImageSets")
_FLAG = re.compile(r"\s+-?[01]$")  # whether the image has an object of a class


def split_by_lists(root: Path, tree: FileTree) -> tuple[SplitOf, list[str]]:
    """Return a function from file to split, from the lists or else from folders, and notes.

    Raises:
        DataError: A list cannot be read.
    """
    media = [*tree.images, *tree.videos]
    existing = {without_suffix(file) for file in media}
    folders = {file.rpartition("/")[0] for file in media}
    existing |= {str(place) for folder in folders for place in _with_parents(folder)}
    places: dict[str, set[str]] = {}
    lists = []
    for base in ("", *sorted({file.partition("/")[0] for file in media})):
        for folder in _FOLDERS:
            found = [
                path
                for path in sorted((root / base / folder).glob("*.txt"))
                if path.stem.lower() in _SPLIT_OF
            ]
            for path in found:
                names = [_FLAG.sub("", line.strip()) for line in read_text(path).splitlines()]
                split = places.setdefault(_SPLIT_OF[path.stem.lower()], set())
                split.update(_listed(base, filter(None, names), existing))
            lists += found
            if found:
                break
    if not any(places.values()):
        return split_by_folder(tree), []
    split_of = SplitPlaces(places, media, "ImageSets")
    used = ", ".join(path.relative_to(root).as_posix() for path in lists)
    return split_of, [f"splits as in {used}", *split_of.notes]


def _listed(base: str, names: Iterable[str], existing: set[str]) -> Iterator[str]:
    """Yield the files without suffix, or folders, of listed names that exist."""
    prefix = f"{base}/" if base else ""
    for name in names:
        plain = without_suffix(name) if name.lower().endswith(IMAGE_SUFFIXES) else name
        for folder in ("", *(f"{folder}/" for folder in IMAGE_FOLDERS)):
            if (place := f"{prefix}{folder}{plain}") in existing:
                yield place
                break


def _with_parents(folder: str) -> Iterator[PurePosixPath]:
    yield PurePosixPath(folder)
    yield from PurePosixPath(folder).parents
