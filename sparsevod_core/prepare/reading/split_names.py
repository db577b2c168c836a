"""Splits that the names of folders, files and subsets stand for.

`train` and `val` are converted. Every other split, such as `test`, is held out: nobody's training
or validation data. `all` is what belongs to none of them.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

IMAGE_FOLDERS = ("images", "Images", "JPEGImages", "frames", "videos", "imgs")
LABEL_FOLDERS = ("labels", "Labels", "Annotations", "annotations")

USED = ("train", "val", "all")
HELD_OUT = {
    "test": "test data are used neither for training nor for validation",
    "unlabeled": "nobody has labeled these",
    "neither": "the data set has them in neither train nor val",
}
"""Splits that are converted only if the user asks for them, and why."""

WORDS = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation"),
    "test": (
        "test", "tests", "testing", "test-dev", "testdev", "test-std", "test-challenge",
        "holdout", "hold-out", "heldout", "held-out",
    ),
    "unlabeled": ("unlabeled", "unlabelled", "unannotated"),
}  # fmt: skip
"""Names of each split."""
SPLIT_OF_WORD = {word: split for split, words in WORDS.items() for word in words}
# `val2017`, `obj_train_data`, `train_images`, `VisDrone2019-MOT-test-dev`
_NAME = re.compile(
    rf"(?:.+-)?({'|'.join(sorted(SPLIT_OF_WORD, key=len, reverse=True))})"
    r"(?:-?(?:data|set|images|videos|frames|labels))?(?:-?(?:19|20)[0-9][0-9])?"
)
_MAX_DEPTH = 2  # folders below the root that can name a split, not counting `images` and the like


def is_split_word(name: str) -> bool:
    """Return True if a folder's name is that of a split and nothing else."""
    return name.lower() in SPLIT_OF_WORD


def split_named(name: str) -> str | None:
    """Return the split that a folder or subset stands for: `val` for `valid` or `val2017`."""
    match = _NAME.fullmatch(re.sub("[_ .]+", "-", name.lower()))
    return SPLIT_OF_WORD[match[1]] if match else None


def split_in_words(stem: str) -> str | None:
    """Return the only split among the words of a file name such as `instances_val2017`."""
    words = re.split("[^a-z]+", stem.lower())
    found = {SPLIT_OF_WORD[word] for word in words if word in SPLIT_OF_WORD}
    return found.pop() if len(found) == 1 else None


@lru_cache(maxsize=1 << 12)  # most files have their folder in common with others
def split_of_folder(folder: str) -> str | None:
    """Return the split that a path of folders stands for; the outermost name decides."""
    names = [name for name in folder.split("/") if name not in (*IMAGE_FOLDERS, *LABEL_FOLDERS)]
    return next(filter(None, map(split_named, names[:_MAX_DEPTH])), None)


def split_of_file(file: str) -> str | None:
    """Return the split that the folders of a file stand for."""
    return split_of_folder(file.rpartition("/")[0])


def find_by_split(
    root: Path, find: Callable[[Path], list[Path]], *, by_file_name: bool = False
) -> dict[str, list[Path]]:
    """Return what `find` returns for `root` and for its folders such as `train`, by split.

    With `by_file_name`, files outside such folders belong to the splits in their own names, if
    there are several: one alone may be a video called `test`.
    """
    found = dict.fromkeys(find(root))
    for folder in sorted(root.iterdir()):
        if folder.is_dir() and split_named(folder.name):
            found |= dict.fromkeys(find(folder))
    named = {path: split_in_words(path.stem) for path in found} if by_file_name else {}
    if len({*named.values()} - {None}) < 2:
        named = {}
    by_split: dict[str, list[Path]] = {}
    for path in found:
        split = split_of_file(path.relative_to(root).as_posix()) or named.get(path) or "all"
        by_split.setdefault(split, []).append(path)
    return by_split
