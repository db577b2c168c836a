"""Splits from the files and folders that a data set lists for each of them.

A file belongs to the split that lists it, or else its nearest folder. A folder with the name of a
held-out split inside a listed one, such as `images/test` inside `images`, is held out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from sparsevod_core.prepare.reading.split_names import HELD_OUT, split_of_file, split_of_folder

_PRECEDENCE = ("test", "val", "train", "all")  # the safest use of what is listed twice


def without_suffix(file: str) -> str:
    """Return the path of a file without the suffix of its name."""
    folder, slash, name = file.rpartition("/")
    return f"{folder}{slash}{name.rpartition('.')[0] or name}"


class SplitPlaces:
    """Function from a file to its split, a `file_tree.SplitOf`.

    Args:
        places: Folders, and files without suffix, of each split, relative to the root with forward
            slashes; "" is the root. `all` lists data that are not divided further.
        files: The images and video files of the data set.
        source: Name of the file or folder that lists the places, for the notes.

    Attributes:
        notes: What several splits list, and the split that it is used for.
    """

    def __init__(self, places: Mapping[str, set[str]], files: Iterable[str], source: str) -> None:
        self.notes: list[str] = []
        self._places = {split: places[split] for split in _PRECEDENCE if places.get(split)}
        self._drop_copies(source)
        self._split_of_place: dict[str, str] = {}
        for split, found in reversed(self._places.items()):
            twice = sorted(found & self._split_of_place.keys())
            if twice:
                others = {self._split_of_place[place] for place in twice}
                self.notes.append(
                    f"{source}: in {split} and in {' and '.join(sorted(others))}: {_some(twice)}"
                    f", used as {split} only"
                )
            self._split_of_place.update(dict.fromkeys(found, split))
        self._of_folder: dict[str, str | None] = {}
        self._is_divided = {"train", "val"} <= set(map(self._named, files))

    def __call__(self, file: str) -> str:
        split = self._named(file)
        if split in HELD_OUT or (split and self._is_divided):
            return split
        is_left_out = split is None and not self._places.keys() <= HELD_OUT.keys()
        return "neither" if is_left_out else "all"

    def _named(self, file: str) -> str | None:
        """Return the split that lists the file, or that its folders are named after."""
        folder = file.rpartition("/")[0]
        if folder not in self._of_folder:
            self._of_folder[folder] = self._nearest(folder)
        split = self._split_of_place.get(without_suffix(file)) or self._of_folder[folder]
        if split is None:
            split = split_of_file(file)
            if split in self._places and not file.endswith((".txt", ".xml")):
                return None  # the split lists other files; labels are beside none of them
        return split

    def _nearest(self, folder: str) -> str | None:
        inside: list[str] = []
        while True:
            if split := self._split_of_place.get(folder):
                named = split_of_folder("/".join(inside))
                return named if named in HELD_OUT else split
            if not folder:
                return None
            folder, _, name = folder.rpartition("/")
            inside.insert(0, name)

    def _drop_copies(self, source: str) -> None:
        """Forget a split whose places are exactly those of another, as in `val: images/train`."""
        for split, original in (("val", "train"), ("test", "train"), ("test", "val")):
            found = self._places.get(split)
            if found and found == self._places.get(original):
                del self._places[split]
                effect = "not divided" if split == "val" else f"used as {original} only"
                self.notes.append(
                    f"{source}: {split} and {original} are the same ({_some(sorted(found))}): "
                    f"{effect}"
                )


def _some(places: list[str]) -> str:
    more = f" and {len(places) - 1} more" if len(places) > 1 else ""
    return f"{places[0] or 'the whole folder'}{more}"
