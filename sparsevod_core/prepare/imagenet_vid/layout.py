"""Videos, still images and lists in a tree of ImageNet VID's official layout; opens no frame.

    ROOT/Data/VID/train/GROUP/SNIPPET/000000.JPEG    ROOT/Annotations/VID/...  the same with .xml
    ROOT/Data/VID/val/SNIPPET/000000.JPEG            ROOT/ImageSets/...        the lists
    ROOT/Data/DET/train/FOLDER/IMAGE.JPEG

A snippet is a video. The lists are those that FGFA published and that everyone trains with. Without
them, all folders with frames are used.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from sparsevod_core.errors import DataError
from sparsevod_core.input_file import require_regular_file

SPLITS = ("train", "val")
JPEG_SUFFIXES = (".jpeg", ".jpg")
TARGETS_PER_SNIPPET = 15

_LIST_FOLDERS = ("ImageSets", "ImageSets/VID", "Lists")
_SNIPPET_LISTS = {"train": "VID_train_15frames.txt", "val": "VID_val_videos.txt"}
_STILLS_LIST = "DET_train_30classes.txt"
_YEAR = re.compile(r"ILSVRC20\d\d")
_DEEPEST_FOLDER = 3  # below train or val; links may form a loop


@dataclass(frozen=True, slots=True)
class FrameFolder:
    """A folder of frames: one video, or some of DET's still images.

    Attributes:
        path: Path below `Data` and `Annotations`, e.g. `VID/val/ILSVRC2015_val_00007010`.
        split: `train` or `val`.
        is_video: False for DET's still images.
        listed_frames: Number of frames of the video according to the list; None without a list.
        targets: Sorted numbers of a training video's target frames according to the list; None
            without a list, and for other folders.
        stems: Names of the listed still images, without suffix; None for all.
    """

    path: str
    split: str
    is_video: bool = True
    listed_frames: int | None = None
    targets: tuple[int, ...] | None = None
    stems: tuple[str, ...] | None = None

    @property
    def name(self) -> str:
        """The path after `VID/val/`, unique within the split."""
        return self.path.split("/", 2)[-1]

    @property
    def is_optional(self) -> bool:
        """Whether images without a usable annotation are normal, as in DET without a list."""
        return not self.is_video and self.stems is None


@dataclass(slots=True)
class Listing:
    """Folders to read for a split.

    Attributes:
        folders: Folders in the tree, in the list's order or sorted.
        missing: Names in the list, but not in the tree.
        unlisted: Names in the tree, but not in the list, and therefore skipped.
        listed_videos, listed_frames: Numbers in the list, present or not; None without a list.
        problems: One line per problem of the list or the folders.
    """

    folders: list[FrameFolder] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    unlisted: list[str] = field(default_factory=list)
    listed_videos: int | None = None
    listed_frames: int | None = None
    problems: list[str] = field(default_factory=list)


def find_root(path: Path) -> Path | None:
    """Return `path`, or the `ILSVRC...` folder in it, whichever has `Data/VID`; None if neither."""
    places = (path, *sorted(path.glob("ILSVRC*")))
    return next((place for place in places if (place / "Data" / "VID").is_dir()), None)


def list_videos(root: Path, split: str) -> Listing:
    """Return the videos of a split: those in its list, or all without a list.

    Raises:
        DataError: A line of the list cannot be parsed, or a name leads out of the tree.
    """
    listing = Listing()
    # A tree of either year matches a list of either year.
    in_tree: dict[str, str] = {}
    for name in _folders_with_frames(root / "Data" / "VID", split, listing.problems):
        other = in_tree.setdefault(_without_year(name), name)
        if other != name:
            place = root / "Data" / "VID" / name
            listing.problems.append(f"{place}: the same video as {other}, skipped")
    path = _find_list(root, _SNIPPET_LISTS[split])
    if path is None:
        listing.folders = [FrameFolder(f"VID/{name}", split) for name in in_tree.values()]
        return listing
    listed = _read_snippet_list(path, listing.problems)
    listing.listed_videos = len(listed)
    listing.listed_frames = sum(snippet.length for snippet in listed.values())
    for key, snippet in listed.items():
        present = in_tree.pop(key, None)
        if present is None:
            listing.missing.append(snippet.name)
            continue
        chosen = tuple(sorted(snippet.numbers)) if split == "train" else None
        folder = FrameFolder(f"VID/{present}", split, listed_frames=snippet.length, targets=chosen)
        listing.folders.append(folder)
    listing.unlisted.extend(in_tree.values())
    return listing


def list_stills(root: Path) -> Listing:
    """Return DET's training images by folder: those in the list, or all without a list.

    Raises:
        DataError: A line of the list cannot be parsed, or a name leads out of the tree.
    """
    listing = Listing()
    data = root / "Data" / "DET"
    if not data.is_dir():
        return listing
    path = _find_list(root, _STILLS_LIST)
    if path is None:
        names = _folders_with_frames(data, "train", listing.problems)
        listing.folders = [FrameFolder(f"DET/{name}", "train", is_video=False) for name in names]
        return listing
    stems: dict[str, dict[str, None]] = {}
    for place, words in _read_list(path, num_words=2):
        name, _, stem = words[0].rpartition("/")
        of_folder = stems.setdefault(name, {})
        if stem in of_folder:
            listing.problems.append(f"{place}: {words[0]} is listed twice")
        of_folder[stem] = None
    listing.listed_frames = sum(map(len, stems.values()))
    for name, chosen in stems.items():
        if (data / name).is_dir():
            folder = FrameFolder(f"DET/{name}", "train", is_video=False, stems=tuple(chosen))
            listing.folders.append(folder)
        else:
            listing.missing.extend(f"{name}/{stem}" for stem in chosen)
    return listing


def spread_targets(length: int) -> list[int]:
    """Return the training targets of an unlisted video: 15 of its frames, spread evenly.

    These are frames floor((i + 1/2) L / 15) for i = 0..14, without duplicates in short videos.
    """
    places = ((2 * i + 1) * length // (2 * TARGETS_PER_SNIPPET) for i in range(TARGETS_PER_SNIPPET))
    return sorted(set(places)) if length else []


def _folders_with_frames(data: Path, split: str, problems: list[str]) -> Iterator[str]:
    """Yield the folders below `data / split` that have a JPEG, sorted; links are followed."""
    if not (data / split).is_dir():
        return
    has_frames, subfolders = _scan(data / split, problems)
    if has_frames:
        problems.append(f"{data / split}: frames lie here, expected a folder per video")
    waiting = [(f"{split}/{name}", 1) for name in reversed(subfolders)]
    while waiting:
        folder, depth = waiting.pop()
        has_frames, subfolders = _scan(data / folder, problems)
        if has_frames:
            yield folder
        elif depth < _DEEPEST_FOLDER:
            waiting += [(f"{folder}/{name}", depth + 1) for name in reversed(subfolders)]


def _scan(folder: Path, problems: list[str]) -> tuple[bool, list[str]]:
    """Return True and no subfolders if there is a JPEG, otherwise False and the subfolders."""
    subfolders = []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.name.lower().endswith(JPEG_SUFFIXES) and not entry.name.startswith("."):
                    return True, []
                if entry.is_dir():
                    subfolders.append(entry.name)
    except OSError as error:
        problems.append(f"{folder}: cannot read the folder: {error.strerror}")
    return False, sorted(subfolders)


@dataclass(slots=True)
class _Snippet:
    """A listed video: its name, its number of frames, and the frame numbers in the list."""

    name: str
    length: int
    numbers: set[int] = field(default_factory=set)


def _read_snippet_list(path: Path, problems: list[str]) -> dict[str, _Snippet]:
    """Return the snippets by name without the year; a line is `name 1 number length`.

    Repeated or contradictory entries are only reported in `problems`.
    """
    snippets: dict[str, _Snippet] = {}
    for place, words in _read_list(path, num_words=4):
        if not all(word.isascii() and word.isdigit() and len(word) < 10 for word in words[2:]):
            raise DataError(
                f"{place}: expected `name 1 frame length`, got {' '.join(words)[:80]!r}"
            )
        name, number, length = words[0], int(words[2]), int(words[3])
        snippet = snippets.setdefault(_without_year(name), _Snippet(name, length))
        if length != snippet.length:
            problems.append(f"{place}: {name} has {length} frames, but {snippet.length} before")
        if number in snippet.numbers:
            problems.append(f"{place}: frame {number} of {name} is listed twice")
        snippet.numbers.add(number)
    return snippets


def _read_list(path: Path, *, num_words: int) -> Iterator[tuple[str, list[str]]]:
    """Yield the place and the words of each line; the first word is a name within the tree."""
    require_regular_file(path, DataError)
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


def _find_list(root: Path, name: str) -> Path | None:
    """Return the path of a list in the tree, None if it is missing."""
    paths = (root / folder / name for folder in _LIST_FOLDERS)
    return next((path for path in paths if path.is_file()), None)


def _without_year(name: str) -> str:
    """Return the name without its year, so that a list matches a tree of another year."""
    return _YEAR.sub("ILSVRC", name)
