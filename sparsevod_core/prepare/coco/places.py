"""The folder that the file names of a COCO file start from.

People move files: names start from another folder than that of the JSON, or have the folders of
another machine in front. What is found is told; names that fit in several folders are refused.
"""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from functools import partial
from itertools import takewhile
from pathlib import Path
from urllib.parse import unquote

import numpy as np

from sparsevod_core.data.annotation_columns import FileNameColumn
from sparsevod_core.data.annotation_file import is_video_file, place
from sparsevod_core.errors import DataError
from sparsevod_core.prepare.coco.entries import CocoEntries
from sparsevod_core.prepare.coco.fields import STAYS, leads_out
from sparsevod_core.prepare.reading.label_set import Hints
from sparsevod_core.prepare.reading.split_names import WORDS

_PROBES = 20
"""Number of names to look for when choosing the folder that names start from."""
_MOST_FOLDERS = 200
"""Number of subfolders that are tried."""


_SPELLINGS: Mapping[str, Callable[[str], str]] = {
    "in composed Unicode form (NFC)": partial(unicodedata.normalize, "NFC"),
    "in decomposed Unicode form (NFD), as macOS writes them": partial(unicodedata.normalize, "NFD"),
    "with %20 and the like decoded": lambda name: _if_printable(unquote(name), name),
}


def _if_printable(text: str, otherwise: str) -> str:
    return text if text.isprintable() else otherwise


def find_place(root: Path, split: str, entries: CocoEntries, hints: Hints) -> Path:
    """Return the folder that names start from, the one that has most of the files.

    Folders in front of all names that are not there are removed from `entries.file_names`. Then
    images whose name leads out of the root are skipped. If no file is there, names are spelled as
    other systems do.

    Raises:
        DataError: none of the names is found, or they are found in several unusual folders.
    """
    try:
        return _find_place(root, split, entries, hints)
    except DataError:
        names, videos = entries.file_names, entries.video_of
        for text, spell in _SPELLINGS.items():
            if not _spell(entries, spell):
                continue
            with suppress(DataError):
                place = _find_place(root, split, entries, hints)
                entries.notes.append(f"{entries.path.name}: file names are read {text}")
                return place
            entries.file_names, entries.video_of = names, videos
        raise


def _spell(entries: CocoEntries, spell: Callable[[str], str]) -> bool:
    """Spell all file names in another way; return False if that does not change the first ones."""
    if all(spell(name) == name for names in _probes(entries) for name in names):
        return False
    column = FileNameColumn()
    for position in range(len(entries.file_names.spans)):
        column.append(spell(entries.file_names[position]))
    entries.file_names = column.names()
    entries.video_of = {
        id_: (name, file if file is None or leads_out(spell(file)) else spell(file))
        for id_, (name, file) in entries.video_of.items()
    }
    return True


def _find_place(root: Path, split: str, entries: CocoEntries, hints: Hints) -> Path:
    leading = _leading_folders(entries)
    is_outside = bool(leading) and leads_out("/".join([*leading, ""]))
    if not is_outside:
        _skip_leading_out(entries)
    probes = _probes(entries)
    if not probes:
        reason = (entries.problems or ["'images' is empty"])[0]
        raise DataError(f"{entries.path}: no usable image: {reason}")
    usual, unusual = _folders(root, split, entries, hints)
    tried = list(dict.fromkeys(_existing(usual)))
    if not is_outside and (best := _best(tried, probes)):
        return best[0]
    others = [folder for folder in dict.fromkeys(_existing(unusual)) if folder not in tried]
    best = [] if is_outside else _best(others, probes)
    for num_removed in range(1, len(leading) + 1):
        if best or any(len(names) > 1 for names in probes):
            break
        removed = "".join(f"{folder}/" for folder in leading[:num_removed])
        shorter = [[name.removeprefix(removed) for name in names] for names in probes]
        if any(leads_out(name) for names in shorter for name in names):
            continue
        if best := _best([*tried, *others], shorter):
            folders = tuple(name.removeprefix(removed) for name in entries.file_names.folders)
            entries.file_names = replace(entries.file_names, folders=folders)
            _skip_leading_out(entries)
            entries.notes.append(f"{entries.path.name}: file names are read without {removed}")
    if len(best) == 1:
        entries.notes.append(f"{entries.path.name}: images are in {best[0]}")
        return best[0]
    name = probes[0][-1]
    hint = "use --images FOLDER to give the folder of the images or videos"
    if best:
        found = ", ".join(map(str, best[:4]))
        raise DataError(f"{entries.path}: {name} and others are in several folders: {found}", hint)
    searched = ", ".join(map(str, tried[:8])) or str(hints.images)
    more = " and their subfolders" if others else ""
    raise DataError(
        f"{entries.path}: {name} and the others that it names are in none of: {searched}{more}",
        hint=hint,
    )


def _folders(
    root: Path, split: str, entries: CocoEntries, hints: Hints
) -> tuple[list[Path], Iterable[Path]]:
    """Return where people put images, by preference, and where else to look."""
    if hints.images is not None:
        return [hints.images], []
    beside = entries.path.parent
    folders = [root] if root.is_dir() else []
    folders += [beside, *([beside.parent] if beside.name == "annotations" else [])]
    stem = entries.path.stem.rpartition("_")[2]
    names = dict.fromkeys([stem, split, *WORDS.get(split, ())])
    below = ["", "images", *names, *(f"images/{name}" for name in names), "videos", "data"]
    usual = [beside / entries.root] if entries.root else []
    usual += [folder / name for folder in folders for name in below]
    return usual, (place for folder in folders for place in _subfolders(folder))


def _subfolders(folder: Path) -> Iterator[Path]:
    for parent in (folder, folder / "images"):
        if parent.is_dir():
            yield from sorted(Path(entry.path) for entry in os.scandir(parent) if entry.is_dir())[
                :_MOST_FOLDERS
            ]


def _existing(folders: Iterable[Path]) -> Iterator[Path]:
    for folder in folders:
        if folder.is_dir():
            yield Path(os.path.normpath(folder.absolute()))


def _best(folders: list[Path], probes: list[list[str]]) -> list[Path]:
    """Return the folders that have most of the files; none if no folder has one."""
    hits = [
        sum(any((folder / name).is_file() for name in names) for names in probes)
        for folder in folders
    ]
    most = max(hits, default=0)
    return [folder for folder, hit in zip(folders, hits, strict=True) if hit == most > 0]


def _probes(entries: CocoEntries) -> list[list[str]]:
    """Return, for some images, the names of which the right folder has one."""
    usable = np.flatnonzero(entries.is_usable)
    probes = []
    for position in usable[:: max(1, len(usable) // _PROBES)].tolist():
        name = entries.file_names[position]
        _, file = entries.video_of.get(entries.images.video_ids[position], ("", None))
        if is_video_file(file):
            probes.append([file])
        else:
            probes.append([*([f"{file}/{name}"] if file else []), name])
    return probes


def _leading_folders(entries: CocoEntries) -> list[str]:
    """Return the folders that all names of images start with, from the outermost one on."""
    split = (folder.split("/")[:-1] for folder in entries.file_names.folders)
    levels = takewhile(lambda level: len(set(level)) == 1, zip(*split, strict=False))
    return [level[0] for level in levels]


def _skip_leading_out(entries: CocoEntries) -> None:
    """Skip images whose name does not stay in the data set's folder."""
    names = entries.file_names
    out = np.array([leads_out(folder) for folder in names.folders], bool)
    for image in np.flatnonzero(out[names.folder_of] & entries.is_usable).tolist():
        entries.is_usable[image] = False
        reason = f"file_name: expected {STAYS}, got {names[image]!r}"
        entries.skip(place("images", image, entries.images.ids[image]), reason)
