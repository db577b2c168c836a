"""Columns of an annotation file: one array element per entry and field.

A million images as Python objects would take ten times the memory.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field
from functools import partial

import numpy as np
from jaxtyping import Int

_DTYPES = {"q": np.int64, "i": np.int32, "d": np.float64, "b": np.int8}  # by `array`'s type codes


def as_numbers(column: array) -> np.ndarray:
    """Return a column as an array that shares its memory."""
    return np.frombuffer(column, _DTYPES[column.typecode])


_wholes, _flags, _floats = (partial(array, typecode) for typecode in "qbd")


@dataclass(frozen=True, slots=True, eq=False)
class FileNames:
    """File names, read by position: `names[3]`. F names.

    Attributes:
        folders: Distinct folders, each empty or with a slash at the end.
        folder_of: Position of each name's folder.
        text: Names without their folders, end to end, in UTF-8.
        spans: Start and end of each name in `text`.
    """

    folders: tuple[str, ...]
    folder_of: Int[np.ndarray, " F"]
    text: bytes
    spans: Int[np.ndarray, "F 2"]

    def __getitem__(self, position: int) -> str:
        start, end = self.spans[position].tolist()
        name = self.text[start:end].decode(errors="surrogatepass")
        return self.folders[self.folder_of[position]] + name

    def take(self, positions: np.ndarray) -> FileNames:
        """Return the names at `positions`, in that order."""
        return FileNames(self.folders, self.folder_of[positions], self.text, self.spans[positions])


@dataclass(slots=True)
class FileNameColumn:
    """Appends file names one by one; fields as in `FileNames`."""

    folders: dict[str, int] = field(default_factory=dict)
    folder_of: array = field(default_factory=partial(array, "i"))
    text: bytearray = field(default_factory=bytearray)
    ends: array = field(default_factory=_wholes)

    def append(self, name: str) -> None:
        folder, slash, rest = name.rpartition("/")
        self.folder_of.append(self.folders.setdefault(folder + slash, len(self.folders)))
        self.text += rest.encode("utf-8", "surrogatepass")
        self.ends.append(len(self.text))

    def names(self) -> FileNames:
        ends = as_numbers(self.ends)
        starts = np.zeros_like(ends)
        starts[1:] = ends[:-1]
        spans = np.stack([starts, ends], axis=1)
        return FileNames(tuple(self.folders), as_numbers(self.folder_of), bytes(self.text), spans)


@dataclass(slots=True)
class Videos:
    """Columns of `videos`: None for an entry without a file, 0 for one without a size."""

    ids: array = field(default_factory=_wholes)
    names: list[str] = field(default_factory=list)
    files: list[str | None] = field(default_factory=list)
    heights: array = field(default_factory=_wholes)
    widths: array = field(default_factory=_wholes)


@dataclass(slots=True)
class Images:
    """Columns of `images`.

    Attributes:
        video_ids, frame_ids: `MISSING` for an entry without the field.
        heights, widths: 0 for an entry without the field.
        unusual_names: Positions of the entries whose file name may lead out of the root.
        is_degraded: 1 or 0; -1 for an entry without the field.
    """

    ids: array = field(default_factory=_wholes)
    video_ids: array = field(default_factory=_wholes)
    frame_ids: array = field(default_factory=_wholes)
    heights: array = field(default_factory=_wholes)
    widths: array = field(default_factory=_wholes)
    is_target: array = field(default_factory=_flags)
    file_names: FileNameColumn = field(default_factory=FileNameColumn)
    unusual_names: array = field(default_factory=_wholes)
    is_degraded: array = field(default_factory=_flags)


@dataclass(slots=True)
class Annotations:
    """Columns of `annotations`; boxes are end to end.

    Attributes:
        instance_ids: `MISSING` for an entry without the field.
        areas, motion_iou: NaN for an entry without the field.
    """

    ids: array = field(default_factory=_wholes)
    image_ids: array = field(default_factory=_wholes)
    category_ids: array = field(default_factory=_wholes)
    instance_ids: array = field(default_factory=_wholes)
    is_crowd: array = field(default_factory=_flags)
    boxes_xywh: array = field(default_factory=_floats)
    areas: array = field(default_factory=_floats)
    motion_iou: array = field(default_factory=_floats)
