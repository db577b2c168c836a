"""Classes and videos that a format finds in a folder, by split, before it reads any label."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, overload

from sparsevod_core.prepare.reading.annotated import AnnotatedVideo

SPLIT_NAMES = {"train": ("train", "training"), "val": ("val", "valid", "validation")}
"""Names of the folders and files of a split."""


@dataclass(frozen=True, slots=True)
class Hints:
    """Facts that the user states about data because their layout leaves them open.

    Attributes:
        classes: Path of a file with class names (`class_names.read_class_list`).
        images: Folder of the images or videos, if they are not beside the annotations.
        first_frame: Number that the annotations give the first frame of a video file, or the first
            image in MOT text files. None: 1 if every video has a frame 1 and none has a 0,
            otherwise 0; for MOT, see `mot.sequences`.
        group_by_folder: If True, the frames of a folder are one video, whatever their names.
    """

    classes: Path | None = None
    images: Path | None = None
    first_frame: int | None = None
    group_by_folder: bool = False


class Source(Protocol):
    """A video, or the still images of one folder, before it is read; must be picklable."""

    @property
    def name(self) -> str:
        """Name of the video."""

    def inputs(self, every_file: bool) -> Iterable[str | Path]:
        """Return the paths that the video is read from, absolute or relative to the root.

        Where there is one file per frame, these are the folders of such files, or the files
        themselves if `every_file`.
        """


@dataclass(frozen=True)
class Part(Sequence[Source]):
    """Some items of a sequence, taken from it on access."""

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
    """Videos of one split.

    Attributes:
        sources: Videos in output order; their `repr` identifies them.
        problems: Problems that belong to none of them.
        alone: Names of the sources that are one image, taken for a video because of its file name
            only; see `frame_groups.lone_frames`.
    """

    sources: Sequence[Source] = ()
    problems: list[str] = field(default_factory=list)
    alone: Sequence[str] = ()


@dataclass(slots=True)
class LabelSet:
    """A data set in one format, before its labels are read.

    Attributes:
        root: Folder that file names are relative to.
        categories: `{"id": ..., "name": ...}` records, in the order of the labels.
        splits: Splits `train` and `val`, or `all` if the data are not divided.
        read: Reads one source; must be picklable.
        notes: Messages for the user about how the data were interpreted.
    """

    root: Path
    categories: list[dict[str, Any]]
    splits: dict[str, Split]
    read: Callable[[Any], AnnotatedVideo]
    notes: list[str] = field(default_factory=list)


def last_change(root: Path, source: Source, every_file: bool) -> int:
    """Return when the inputs of a source last changed, in nanoseconds; see `Origin`."""
    times = [0]
    for path in source.inputs(every_file):
        try:
            times.append((root / path).stat().st_ctime_ns)
        except OSError:  # reported when the source is read
            times.append(1)
    return max(times)


def find_by_split(root: Path, find: Callable[[Path], list[Path]]) -> dict[str, list[Path]]:
    """Return what `find` returns for `root` as `all`, or else for its folders `train` and `val`.

    Names such as `VisDrone2019-VID-train` count, too.
    """
    if found := find(root):
        return {"all": found}
    by_split = {}
    for split, names in SPLIT_NAMES.items():
        places = (path for name in names for path in (root / name, *sorted(root.glob(f"*-{name}"))))
        folder = next((path for path in places if path.is_dir()), None)
        if folder is not None and (found := find(folder)):
            by_split[split] = found
    return by_split


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


def first_frame_number(numbers: Sequence[Sequence[int]], hint: int | None) -> int:
    """Return the number that annotations give the first frame of a video file; see `Hints`.

    `numbers` are the annotated frame numbers of each video file, ascending.
    """
    if hint is not None:
        return hint
    annotated = [video for video in numbers if len(video)]
    return int(bool(annotated) and all(video[0] == 1 for video in annotated))
