"""The videos of a COCO file, each cut from the file's columns only when it is read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import overload

import numpy as np
from jaxtyping import Float, Int

from sparsevod_core.data.annotation_file import as_numbers
from sparsevod_core.data.annotation_fit import positions_of
from sparsevod_core.data.json_fields import MISSING
from sparsevod_core.prepare.annotated import AnnotatedFrame, LabelledBox
from sparsevod_core.prepare.coco.entries import CROWD, GENERATED, OCCLUDED, CocoEntries
from sparsevod_core.prepare.coco.groups import ImageGroup
from sparsevod_core.prepare.media import inputs_of


@dataclass(frozen=True, slots=True)
class CocoVideo:
    """Images and annotations of one video. n images, m annotations.

    Attributes:
        path: Path of the JSON.
        base: Prefix of every name: "" or a folder below the root.
        name, file, folder, is_video, numbers: As in `ImageGroup`, names with the prefix.
        image_ids, file_names, sizes, targets: As in `CocoEntries`, in the order of `numbers`.
        box_ends: End of each image's annotations.
        boxes: Position in the file, class, track (or `MISSING`) and flags of each annotation.
        boxes_ltwh: Boxes in pixels.
    """

    path: Path
    base: str
    name: str
    file: str | None
    folder: str | None
    is_video: bool
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
        """Return an image's file name, relative to the root."""
        return "/".join(filter(None, [self.base, self.file_names[position]]))

    def size_of(self, position: int) -> tuple[int, int]:
        """Return height and width as annotated; (0, 0) if one is missing."""
        height, width = self.sizes[position].tolist()
        return (height, width) if height and width else (0, 0)

    def frame(self, position: int, number: int, height: int, width: int) -> AnnotatedFrame:
        """Return the frame without boxes."""
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

    def boxes_of(self, position: int) -> Iterator[tuple[int, LabelledBox]]:
        """Yield each box of an image and its annotation's position in the file."""
        start = int(self.box_ends[position - 1]) if position else 0
        for row in range(start, int(self.box_ends[position])):
            place, class_id, track, flags = self.boxes[row].tolist()
            left, top, width, height = self.boxes_ltwh[row].tolist()
            yield (
                place,
                LabelledBox(
                    class_id,
                    (left, top, left + width, top + height),
                    None if track == MISSING else track,
                    occluded=bool(flags & OCCLUDED),
                    generated=bool(flags & GENERATED),
                    is_crowd=bool(flags & CROWD),
                ),
            )


class CocoVideos(Sequence[CocoVideo]):
    """The videos of a file. The file's columns are in memory once.

    Args:
        entries: Columns of the file; annotations that refer to nothing are added to its problems.
        groups: Images by video.
        base: Prefix of every name: "" or a folder below the root.
    """

    def __init__(self, entries: CocoEntries, groups: list[ImageGroup], base: str) -> None:
        self._entries = entries
        self._groups = groups
        self._base = base
        images = _annotated_images(entries)
        order = np.argsort(images, kind="stable")
        self._rows = order[np.searchsorted(images[order], 0) :]
        self._starts = np.searchsorted(images[self._rows], np.arange(len(entries.image_ids) + 1))
        columns = (
            entries.box_positions,
            entries.box_classes,
            entries.box_tracks,
            entries.box_flags,
        )
        self._boxes = np.stack([as_numbers(column) for column in columns], axis=1)
        self._boxes_ltwh = as_numbers(entries.boxes_ltwh).reshape(-1, 4)
        sizes = as_numbers(entries.heights), as_numbers(entries.widths)
        self._sizes = np.stack(sizes, axis=1)
        self._targets = as_numbers(entries.targets)

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
            base=self._base,
            name=group.name,
            file=file,
            folder=folder,
            is_video=group.is_video,
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
    """Return the position of each annotation's image; -1 for annotations that are skipped."""
    wanted, classes = as_numbers(entries.box_images), as_numbers(entries.box_classes)
    images = positions_of(as_numbers(entries.image_ids), wanted)
    unknown_class = ~np.isin(classes, list(entries.names))
    for row in np.flatnonzero((images < 0) | unknown_class).tolist():
        key, id_, section = "category_id", classes[row], "categories"
        if images[row] < 0:
            key, id_, section = "image_id", wanted[row], "images"
        entries.skip(
            f"annotations[{entries.box_positions[row]}]", f"{key} {id_} is not in {section!r}"
        )
    images[unknown_class] = -1
    return images
