"""Images of each split, from the folders and lists that `data.yaml` or `obj.data` names.

Paths are resolved only below the root: `path:` and lists are often those of another machine, and
exports write `../train/images` for a folder beside the file. Leading folders that do not exist here
are left out, which is said.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from sparsevod_core.errors import DataError
from sparsevod_core.prepare.reading.file_tree import FileTree
from sparsevod_core.prepare.reading.split_names import IMAGE_FOLDERS
from sparsevod_core.prepare.reading.split_places import SplitPlaces, without_suffix
from sparsevod_core.prepare.reading.text_file import read_text
from sparsevod_core.prepare.yolo.data_yaml import DataFile


def split_by_locations(
    root: Path, data: DataFile, tree: FileTree
) -> tuple[SplitPlaces | None, list[str]]:
    """Return a function from file to split (None if no split has a location), and notes.

    Raises:
        DataError: A location of `train` or `val` that does not exist below `root`, or an unreadable
            list of images.
    """
    finder = _Finder(root, data, tree)
    places = {split: finder.places(split, texts) for split, texts in data.places.items()}
    if not any(places.values()):
        return None, finder.notes
    split_of = SplitPlaces(places, [*tree.images, *tree.videos], data.path.name)
    return split_of, finder.notes + split_of.notes


class _Finder:
    """Finds the locations of a data file below the root."""

    def __init__(self, root: Path, data: DataFile, tree: FileTree) -> None:
        self._root = root
        self._data = data
        self._tree = tree
        self._files: set[str] | None = None
        self.notes: list[str] = []

    def places(self, split: str, texts: Iterable[str]) -> set[str]:
        """Return the folders of a split, and the files in its lists without suffix."""
        found: set[str] = set()
        for text in texts:
            place = self._resolve(split, text)
            if place is None:
                if split == "test":  # exports name one whether it is there or not
                    continue
                raise DataError(
                    f"{self._data.path}: {split}: {text[:80]!r} does not exist below {self._root}",
                    hint="give paths relative to the folder of this file",
                )
            if place.suffix == ".txt" and place.is_file():
                found.update(self._listed(split, place))
            else:
                name = place.relative_to(self._root).as_posix()
                found.add("" if name == "." else name)
        return found

    def _resolve(self, split: str, text: str) -> Path | None:
        """Return the file or folder below the root that a path refers to."""
        parts, above = _parts(text), _parts(self._data.folder)
        for candidate in ([*above, *parts], parts):
            if _exists(place := self._root.joinpath(*candidate)):
                return place
        # The folder `images` alone may be that of any split.
        last = len(parts) - any(part in IMAGE_FOLDERS for part in parts[-1:])
        for start in range(1, last):
            place = self._root.joinpath(*parts[start:])
            if _exists(place):
                name = "/".join(parts[start:])
                self.notes.append(f"{self._data.path.name}: {split}: {text[:80]!r} read as {name}")
                return place
        return None

    def _listed(self, split: str, path: Path) -> set[str]:
        """Return the files that a list has, without suffix; some may not exist."""
        lines = read_text(path).splitlines()
        if self._files is None:
            names = [*self._tree.images, *self._tree.videos, *self._tree.labels]
            self._files = set(map(without_suffix, names))
        base = path.parent.relative_to(self._root).parts
        found: set[str] = set()
        missing: list[int] = []
        for number, line in enumerate(lines, start=1):
            if line.strip():
                parts = _parts(without_suffix(line.strip()))
                name = self._existing(base, parts)
                found.add(name or "/".join(parts))
                if name is None:
                    missing.append(number)
        if missing and split != "test":
            first = lines[missing[0] - 1].strip()[:80]
            place = f"{path}:{missing[0]}: {first!r} does not exist in {self._root}"
            if len(missing) == len(found) and (self._tree.images or not self._tree.videos):
                raise DataError(place)
            if self._tree.images:
                self.notes.append(f"{place} ({len(missing)} such images)")
        return found

    def _existing(self, base: Sequence[str], parts: Sequence[str]) -> str | None:
        """Return the name that a listed path has below the root, without its foreign folders."""
        assert self._files is not None
        for candidate in (parts, [*base, *parts]):
            if (name := "/".join(candidate)) in self._files:
                return name
        for start in range(1, len(parts)):
            if (name := "/".join(parts[start:])) in self._files:
                return name
        return None


def _parts(text: str) -> list[str]:
    """Return the folders of a path of any system; those that leave or start one are dropped."""
    parts = text.replace("\\", "/").split("/")
    return [part for part in parts if part not in ("", ".", "..") and not part.endswith(":")]


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):  # a name that no file can have
        return False
