"""Images, video files and label files below a folder, and where the labels of each may be.

Files whose name starts with a dot are never data: macOS writes `._a.jpg` beside `a.jpg`.
"""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import takewhile
from pathlib import Path, PurePosixPath

from sparsevod_core.data.annotation_file import is_video_file
from sparsevod_core.prepare.reading.split_names import (
    HELD_OUT,
    IMAGE_FOLDERS,
    LABEL_FOLDERS,
    is_split_word,
    split_of_file,
)
from sparsevod_core.video.kinds import IMAGE_SUFFIXES

SplitOf = Callable[[str], str]
"""Returns the split of an image or video file."""


@dataclass(slots=True)
class FileTree:
    """Paths of the images, video files and label files below a root, relative to it.

    `other_file` is the first file that is none of these; "" without any.
    """

    images: list[str] = field(default_factory=list)
    videos: list[str] = field(default_factory=list)
    labels: set[str] = field(default_factory=set)
    other_file: str = ""


def list_files(root: Path, label_suffix: str) -> FileTree:
    """List the images, the video files, and the files that end in `label_suffix`."""
    tree = FileTree()
    for path in walk_files(root):
        if path.lower().endswith(IMAGE_SUFFIXES):
            tree.images.append(path)
        elif is_video_file(path):
            tree.videos.append(path)
        elif path.lower().endswith(label_suffix):
            tree.labels.add(path)
        else:
            tree.other_file = tree.other_file or path
    return tree


def walk_files(folder: Path) -> Iterator[str]:
    """Yield the files below `folder`, relative to it, sorted within each folder.

    Links are followed, loops are not. Names that start with a dot are skipped.
    """
    seen: set[str] = set()
    for place, subfolders, files in os.walk(folder, followlinks=True):
        real = os.path.realpath(place)
        if real in seen:
            subfolders.clear()
            continue
        seen.add(real)
        subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
        relative = os.path.relpath(place, folder).replace(os.sep, "/")
        prefix = "" if relative == "." else f"{relative}/"
        yield from (prefix + name for name in sorted(files) if not name.startswith("."))


def files_in(folder: Path, suffix: str) -> list[Path]:
    """Return the entries of a folder that end in `suffix`, sorted; none without such a folder."""
    return _entries(folder, lambda name: name.lower().endswith(suffix))


def image_files(folder: Path) -> list[Path]:
    """Return the images in a folder, sorted by name; none if there is no such folder."""
    return _entries(folder, lambda name: name.lower().endswith(IMAGE_SUFFIXES))


def video_files(folder: Path) -> list[Path]:
    """Return the video files in a folder, sorted by name; none if there is no such folder."""
    return _entries(folder, is_video_file)


def _entries(folder: Path, is_wanted: Callable[[str], bool]) -> list[Path]:
    paths = folder.iterdir() if folder.is_dir() else ()
    return sorted(path for path in paths if path.name[0] != "." and is_wanted(path.name))


def split_by_folder(tree: FileTree) -> SplitOf:
    """Return a function that gives the split of a file by its folders.

    Without folders for both `train` and `val`, it gives `all` for all that is not held out. With
    both, it gives `neither` for files in no split.
    """
    found = {split_of_file(file) for file in (*tree.images, *tree.videos)}
    is_divided = {"train", "val"} <= found

    def split_of(file: str) -> str:
        split = split_of_file(file)
        if is_divided:
            return split or "neither"
        return split if split in HELD_OUT else "all"

    return split_of


def base_of(file: str) -> str:
    """Return the leading folders such as `images` or `train`, which video names do not include."""
    folders = PurePosixPath(file).parent.parts
    return "/".join(takewhile(lambda name: name in IMAGE_FOLDERS or is_split_word(name), folders))


def label_of(image: str, suffix: str, labels: set[str]) -> str | None:
    """Return the label file of an image, None if it has none."""
    stem = image.rpartition(".")[0]
    candidates = (label + end for label in label_stems(stem) for end in (suffix, suffix.upper()))
    return next((label for label in candidates if label in labels), None)


def label_stems(stem: str) -> Iterator[str]:
    """Yield the paths without suffix where the label of `stem` may be, most likely first.

    Names may be in another Unicode form than `stem`: macOS decomposes accented letters.
    """
    yield from _places(stem)
    if not stem.isascii():
        for form in ("NFC", "NFD"):
            yield from _places(unicodedata.normalize(form, stem))


def _places(stem: str) -> Iterator[str]:
    yield stem
    parts = stem.split("/")
    for place, part in reversed(list(enumerate(parts[:-1]))):
        if part in IMAGE_FOLDERS:
            for name in LABEL_FOLDERS:
                yield "/".join([*parts[:place], name, *parts[place + 1 :]])
    for place in range(min(len(parts), 2)):
        for name in LABEL_FOLDERS:
            yield "/".join([*parts[:place], name, *parts[place:]])
