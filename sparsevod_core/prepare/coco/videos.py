"""From the columns of a COCO file to its videos, each made only when it is asked for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import overload

import numpy as np
from jaxtyping import Float, Int

from sparsevod_core.prepare.coco.entries import UNKNOWN, CocoEntries
from sparsevod_core.prepare.coco.groups import ImageGroup
from sparsevod_core.prepare.reading.annotated import AnnotatedFrame
from sparsevod_core.prepare.reading.media import inputs_of


@dataclass(frozen=True, slots=True)
class CocoBox:
    """An annotation; `place` is its position in the file."""

    place: int
    class_id: int
    track: int | None
    box_ltwh: tuple[float, float, float, float]
    is_crowd: bool
    is_occluded: bool
    is_generated: bool


@dataclass(frozen=True, slots=True)
class CocoVideo:
    """One video's images and annotations; n images, m annotations.

    Attributes:
        path: the JSON.
        base: in front of every name, "" or a folder below the root.
        box_ends: behind the last annotation of each image; parallel to `numbers`.
        boxes: place, class, track (`UNKNOWN` without) and flags of each annotation.
        Others as in `ImageGroup` and `CocoEntries`.
    """

    path: Path
    name: str
    file: str | None
    folder: str | None
    is_video: bool
    base: str
    numbers: list[int]
    image_ids: list[int]
    file_names: list[str]
    sizes: Int[np.ndarray, "n 2"]
    targets: Int[np.ndarray, " n"]
    box_ends: Int[np.ndarray, " n"]
    boxes: Int[np.ndarray, "m 4"]
    boxes_ltwh: Float[np.ndarray, "m 4"]

    def inputs(self, every_file: bool) -> Iterator[str | Path]:
        """See `label_set.Source`."""
        yield self.path
        if self.file:
            yield self.file
        else:
            names = (self.file_name(position) for position in range(len(self.numbers)))
            yield from inputs_of(names, every_file)

    def file_name(self, position: int) -> str:
        """Of an image, relative to the root."""
        return "/".join(filter(None, [self.base, self.file_names[position]]))

    def size_of(self, position: int) -> tuple[int, int]:
        """Height and width as annotated; (0, 0) where one is missing."""
        height, width = self.sizes[position].tolist()
        return (height, width) if height and width else (0, 0)

    def frame(self, position: int, number: int, height: int, width: int) -> AnnotatedFrame:
        """The frame without boxes."""
        target = int(self.targets[position])
        return AnnotatedFrame(
            self.file_names[position],
            number,
            width,
            height,
            [],
            is_target=None if target < 0 else bool(target),
            image_id=self.image_ids[position],
        )

    def boxes_of(self, position: int) -> Iterator[CocoBox]:
        """The annotations of an image, in the file's order."""
        start = int(self.box_ends[position - 1]) if position else 0
        for row in range(start, int(self.box_ends[position])):
            place, class_id, track, flags = self.boxes[row].tolist()
            left, top, width, height = self.boxes_ltwh[row].tolist()
            yield CocoBox(
                place,
                class_id,
                None if track == UNKNOWN else track,
                (left, top, width, height),
                is_crowd=bool(flags & 1),
                is_occluded=bool(flags & 2),
                is_generated=bool(flags & 4),
            )


class CocoVideos(Sequence[CocoVideo]):
    """The videos of a file. The file's columns are in memory once, a video's part when it is read.

    Args:
        entries: the file; annotations of no image or class are added to its problems.
        groups: its images by video.
        base: in front of every name, "" or a folder below the root.
    """

    def __init__(self, entries: CocoEntries, groups: list[ImageGroup], base: str) -> None:
        self._entries = entries
        self._groups = groups
        self._base = base
        images = _annotated_images(entries)
        order = np.argsort(images, kind="stable")
        self._rows = order[np.searchsorted(images[order], 0) :]
        self._starts = np.searchsorted(images[self._rows], np.arange(len(entries.image_ids) + 1))
        self._boxes = np.stack(
            [
                np.frombuffer(column, np.int64)
                for column in (
                    entries.box_places,
                    entries.box_classes,
                    entries.box_tracks,
                    entries.box_flags,
                )
            ],
            axis=1,
        )
        self._boxes_ltwh = np.frombuffer(entries.boxes_ltwh, np.float64).reshape(-1, 4)
        self._sizes = np.stack(
            [np.frombuffer(column, np.int64) for column in (entries.heights, entries.widths)], 1
        )
        self._targets = np.frombuffer(entries.targets, np.int64)

    def __repr__(self) -> str:
        names = [(group.name, group.file, len(group.numbers)) for group in self._groups]
        return f"CocoVideos({self._entries.path}, {self._base!r}, {names})"

    def __len__(self) -> int:
        return len(self._groups)

    @overload
    def __getitem__(self, index: int) -> CocoVideo: ...
    @overload
    def __getitem__(self, index: slice) -> list[CocoVideo]: ...
    def __getitem__(self, index: int | slice) -> CocoVideo | list[CocoVideo]:
        if isinstance(index, slice):
            return [self[place] for place in range(*index.indices(len(self)))]
        group, entries = self._groups[index], self._entries
        images = group.images.tolist()
        spans = [self._rows[self._starts[image] : self._starts[image + 1]] for image in images]
        rows = np.concatenate([np.empty(0, np.int64), *spans])
        file, folder = (
            "/".join([self._base, name]) if name and self._base else name
            for name in (group.file, group.folder)
        )
        return CocoVideo(
            path=entries.path,
            name=group.name,
            file=file,
            folder=folder,
            is_video=group.is_video,
            base=self._base,
            numbers=group.numbers,
            image_ids=[entries.image_ids[image] for image in images],
            file_names=[entries.file_names[image] for image in images],
            sizes=self._sizes[group.images],
            targets=self._targets[group.images],
            box_ends=np.cumsum([len(span) for span in spans]),
            boxes=self._boxes[rows],
            boxes_ltwh=self._boxes_ltwh[rows],
        )


def _annotated_images(entries: CocoEntries) -> Int[np.ndarray, " m"]:
    """The position of each annotation's image; -1 for annotations that are left out."""
    ids = np.frombuffer(entries.image_ids, np.int64)
    wanted = np.frombuffer(entries.box_images, np.int64)
    order = np.argsort(ids, kind="stable")
    if not len(ids):
        return np.full(len(wanted), -1)
    images = order[np.searchsorted(ids, wanted, sorter=order).clip(max=len(ids) - 1)]
    unknown_image = ids[images] != wanted
    classes = np.frombuffer(entries.box_classes, np.int64)
    unknown_class = ~np.isin(classes, list(entries.names))
    for row in np.flatnonzero(unknown_image | unknown_class).tolist():
        key, value, section = "category_id", int(classes[row]), "categories"
        if unknown_image[row]:
            key, value, section = "image_id", int(wanted[row]), "images"
        entries.problems.append(
            f"{entries.path}: annotations[{entries.box_places[row]}]: {key} {value} is not in "
            f"{section}, left out"
        )
    images[unknown_image | unknown_class] = -1
    return images
