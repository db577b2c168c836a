"""Classes and videos that a format finds in a folder, by split, before it reads any label."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, overload

from sparsevod_core.prepare.reading.annotated import AnnotatedVideo
from sparsevod_core.prepare.reading.split_names import USED


@dataclass(frozen=True, slots=True)
class Hints:
    """Facts that the user states about data because their layout leaves them open.

    Attributes:
        classes: Path of a file with class names (`class_names.read_class_list`).
        images: Folder of the images or videos, if they are not beside the annotations.
        first_frame: Number that the annotations give the first frame of a video file, or the first
            image in MOT text files. None: see `first_frame.first_frames` and `mot.sequences`.
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
        splits: Videos by split: `train`, `val`, `all`, and those that are held out
            (`split_names`).
        read: Reads one source; must be picklable.
        notes: Messages for the user about how the data were interpreted.
        json_files: Files of the data set that an output could overwrite.
    """

    root: Path
    categories: list[dict[str, Any]]
    splits: dict[str, Split]
    read: Callable[[Any], AnnotatedVideo]
    notes: list[str] = field(default_factory=list)
    json_files: Sequence[Path] = ()

    def __post_init__(self) -> None:
        if {"train", "val"} <= self.splits.keys() and "all" in self.splits:
            self.splits["neither"] = self.splits.pop("all")


def used_sources(splits: Mapping[str, Split]) -> list[Source]:
    """Return the sources of all splits but those that are held out, or of these if all are."""
    used = [split for name, split in splits.items() if name in USED] or splits.values()
    return [source for split in used for source in split.sources]


def last_change(root: Path, source: Source, every_file: bool) -> int:
    """Return when the inputs of a source last changed, in nanoseconds; see `Origin`."""
    times = [0]
    for path in source.inputs(every_file):
        try:
            times.append((root / path).stat().st_ctime_ns)
        except OSError:  # reported when the source is read
            times.append(1)
    return max(times)
