"""What a format finds in a folder before it reads any label: videos by split, and classes."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, overload

from sparsevod_core.prepare.annotated import AnnotatedVideo

SPLIT_NAMES = {"train": ("train", "training"), "val": ("val", "valid", "validation")}
"""What folders and files of a split are called."""


@dataclass(frozen=True, slots=True)
class Hints:
    """What the user says of data whose layout leaves it open.

    Attributes:
        classes: file with class names (`class_names.read_class_list`).
        images: folder that file names of images and videos start from, where it is not found
            beside the annotations.
        first_frame: what number the annotations give the first frame of a video file; None: 1 where
            every video has a frame 1 and none has a 0, else 0.
        group_by_folder: the frames of a folder are one video, whatever they are called.
    """

    classes: Path | None = None
    images: Path | None = None
    first_frame: int | None = None
    group_by_folder: bool = False


class Source(Protocol):
    """A video, or stills that lie together, before it is read; goes to worker processes."""

    @property
    def name(self) -> str:
        """Of the video."""

    def inputs(self, every_file: bool) -> Iterable[str | Path]:
        """What it is read from, absolute or relative to the root: annotation files, video files,
        and the folders of files that there is one of for each frame, or, if `every_file`, these.
        """


@dataclass(frozen=True)
class Part(Sequence[Source]):
    """Some of a sequence, taken from it only when they are asked for."""

    whole: Sequence[Source]
    places: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.places)

    @overload
    def __getitem__(self, index: int) -> Source: ...
    @overload
    def __getitem__(self, index: slice) -> Part: ...
    def __getitem__(self, index: int | slice) -> Source | Part:
        if isinstance(index, slice):
            return Part(self.whole, self.places[index])
        return self.whole[self.places[index]]


@dataclass(slots=True)
class Split:
    """Some videos of a set.

    Attributes:
        sources: in the order in which they are written; `repr` tells all that names them.
        problems: what is wrong and belongs to none of them.
    """

    sources: Sequence[Source] = ()
    problems: list[str] = field(default_factory=list)


@dataclass(slots=True)
class LabelSet:
    """Labels in one format.

    Attributes:
        root: folder that file names start from.
        categories: `{"id": ..., "name": ...}` records, in the order of the labels.
        splits: `train` and `val`, or `all` where the data are not divided.
        read: opens a source; goes to worker processes with it.
        notes: lines for the user on what was understood.
    """

    root: Path
    categories: list[dict[str, Any]]
    splits: dict[str, Split]
    read: Callable[[Any], AnnotatedVideo]
    notes: list[str] = field(default_factory=list)


def last_change(root: Path, source: Source, every_file: bool) -> int:
    """When anything that a source is read from last changed, in nanoseconds; see `Origin`."""
    times = [0]
    for path in source.inputs(every_file):
        try:
            times.append((root / path).stat().st_ctime_ns)
        except OSError:  # reading it will say what is wrong
            times.append(1)
    return max(times)


def split_folders(root: Path) -> dict[str, Path]:
    """The folders of `train` and `val` in `root`, as far as they are there."""
    found = {}
    for split, names in SPLIT_NAMES.items():
        folder = next((root / name for name in names if (root / name).is_dir()), None)
        if folder is not None:
            found[split] = folder
    return found


def walk_files(folder: Path) -> Iterator[tuple[str, list[str]]]:
    """Every folder below `folder` with its files, sorted; links are followed, circles are not.

    Folders are named relative to `folder`, "" for itself.
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
        yield (
            "" if relative == "." else relative,
            sorted(name for name in files if not name.startswith(".")),
        )


def first_frame_number(numbers: Sequence[Sequence[int]], hint: int | None) -> int:
    """What number the annotations give the first frame of a video file; see `Hints`.

    Args:
        numbers: frame numbers of each video file as annotated, ascending.
        hint: the user's word.
    """
    if hint is not None:
        return hint
    annotated = [video for video in numbers if len(video)]
    return int(bool(annotated) and all(video[0] == 1 for video in annotated))
