"""The JSON files of a COCO data set, by split.

    annotations/instances_train2017.json   annotations/instances_val2017.json      COCO
    annotations/instances_default.json                                             CVAT, Datumaro
    train/_annotations.coco.json           valid/_annotations.coco.json            Roboflow
    train/labels.json                      val/labels.json                         FiftyOne
    result.json                                                                    Label Studio

Only one file for each split is taken: several for one, such as `train.json` and `train_half.json`,
may hold the same images.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from sparsevod_core.errors import DataError
from sparsevod_core.prepare.reading.split_names import (
    HELD_OUT,
    split_in_words,
    split_named,
    split_of_file,
)

_HEAD_BYTES = 1 << 16
_OURS = b'"tool": "sparsevod'
_MOST_FILES = 200
"""Number of files per folder that are looked into; some tools write one JSON per image."""


@dataclass(frozen=True, slots=True)
class CocoFiles:
    """JSON files by split, or one as `all`, and the COCO files beside them that are left out."""

    splits: dict[str, Path]
    left_out: list[Path] = field(default_factory=list)


def find_files(root: Path) -> CocoFiles:
    """Return the COCO files at `root`; files that we wrote only without others.

    They are in `root`, in its folder `annotations`, or in a folder of a split. COCO calls the files
    with the boxes of all classes `instances_...`; these are preferred.

    Raises:
        DataError: several files for one split, or several without a split.
    """
    if root.is_file():
        return CocoFiles({"all": root})
    heads = {path: _head(path) for path in _json_files(root)}
    paths = [path for path, head in heads.items() if _is_coco(head)]
    paths = [path for path in paths if _OURS not in heads[path]] or paths
    by_split: defaultdict[str, list[Path]] = defaultdict(list)
    for path in paths:
        by_split[_split_of(path, root)].append(path)
    for split, found in by_split.items():
        instances = [path for path in found if path.stem.startswith("instances")]
        by_split[split] = instances if len(instances) == 1 else found
    held_out = [path for split in HELD_OUT for path in by_split.pop(split, [])]
    if all(len(by_split[split]) == 1 for split in ("train", "val")):
        splits = {split: by_split[split][0] for split in ("train", "val")}
    else:
        candidates = [path for found in by_split.values() for path in found]
        if len(candidates) > 1:
            names = ", ".join(path.relative_to(root).as_posix() for path in sorted(paths)[:8])
            raise DataError(
                f"{root}: {len(paths)} JSON files, but not one for train and one for val: {names}",
                hint="give the file to convert instead of the folder, one file at a time",
            )
        if held_out and not candidates:
            names = ", ".join(path.relative_to(root).as_posix() for path in held_out[:8])
            raise DataError(
                f"{root}: only test or unlabeled data here: {names}",
                hint="give the file instead of the folder to convert it anyway",
            )
        splits = {"all": candidates[0]} if candidates else {}
    return CocoFiles(splits, [path for path in paths if path not in splits.values()])


def is_prepared(path: Path) -> bool:
    """Return True if `prepare-vid` wrote the file."""
    return _OURS in _head(path)


def _json_files(root: Path) -> Iterator[Path]:
    for folder in ("", "annotations", *_split_folders(root)):
        yield from sorted((root / folder).glob("*.json"))[:_MOST_FILES]


def _split_folders(root: Path) -> Iterator[str]:
    for folder in sorted(root.iterdir()):
        if split_named(folder.name) and folder.is_dir():
            yield from (folder.name, f"{folder.name}/annotations")


def _split_of(path: Path, root: Path) -> str:
    """Return the split that a file's folder or name states, or ""."""
    return split_of_file(path.relative_to(root).as_posix()) or split_in_words(path.stem) or ""


def _is_coco(head: bytes) -> bool:
    if b'"images"' in head or b'"videos"' in head:
        return True
    return b'"annotations"' in head and b'"image_id"' in head  # `images` is in the middle


def _head(path: Path) -> bytes:
    """Return the start and the end of a file: sections can have any order."""
    if not path.is_file():  # opening a pipe would block
        return b""
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD_BYTES)
            file.seek(-min(path.stat().st_size, _HEAD_BYTES), os.SEEK_END)
            return head + file.read()
    except OSError:
        return b""
