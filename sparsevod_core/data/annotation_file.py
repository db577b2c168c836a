"""Reading COCO and COCO-VID annotation files into flat columns, for training and for scoring.

Every entry is checked on its own here; `annotation_fit` checks that entries fit together.
"""

from __future__ import annotations

import math
import re
from array import array
from collections.abc import Callable, Collection, Container, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np

from sparsevod_core.category import Category
from sparsevod_core.data.file_names import FileNameColumn
from sparsevod_core.data.json_fields import (
    LEAST_WHOLE,
    MISSING,
    FieldError,
    Id,
    finite,
    size,
    text,
    whole,
)
from sparsevod_core.data.json_stream import stream_sections
from sparsevod_core.errors import DataError

SECTIONS = ("categories", "videos", "images", "annotations")
_VIDEO_FILE = re.compile(r"\.(3gp|avi|flv|m4v|mkv|mov|mp4|mpe?g|m?ts|webm|wmv)$", re.IGNORECASE)
_FIRST_TEXT_ID = MISSING + 1
_DTYPES = {"q": np.int64, "d": np.float64, "b": np.int8}  # by `array`'s type codes


def _wholes() -> array:
    return array("q")


def _flags() -> array:
    return array("b")


def _floats() -> array:
    return array("d")


@dataclass(slots=True)
class Videos:
    """Columns of `videos`; `files` has None for an entry without a file."""

    ids: array = field(default_factory=_wholes)
    names: list[str] = field(default_factory=list)
    files: list[str | None] = field(default_factory=list)
    heights: array = field(default_factory=_wholes)
    widths: array = field(default_factory=_wholes)


@dataclass(slots=True)
class Images:
    """Columns of `images`.

    Attributes:
        video_ids, frame_ids: `MISSING` for an image that belongs to no video.
        heights, widths: 0 if the entry has none.
        unusual_names: positions of the entries whose file name may lead out of the root.
        is_degraded: 1 or 0, -1 if the entry does not say.
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
        instance_ids: `MISSING` if the entry has none.
        areas, motion_iou: NaN if the entry has none.
    """

    ids: array = field(default_factory=_wholes)
    image_ids: array = field(default_factory=_wholes)
    category_ids: array = field(default_factory=_wholes)
    instance_ids: array = field(default_factory=_wholes)
    is_crowd: array = field(default_factory=_flags)
    boxes_xywh: array = field(default_factory=_floats)
    areas: array = field(default_factory=_floats)
    motion_iou: array = field(default_factory=_floats)


@dataclass(slots=True)
class AnnotationFile:
    """Columns of an annotation file.

    Attributes:
        path: the file.
        for_frames: read what loading frames needs: sizes, file names and ids of annotations, which
            must be given, and `is_vid_train_frame`; ids must be whole numbers. If False, ids may be
            text (see `ids_of`), and these columns are empty, except for the file names.
        for_scoring: read `area`, `motion_iou` and `degradation`; if False, their columns are empty.
        root: `info.root`, the folder that file names start from.
    """

    path: Path
    for_frames: bool = True
    for_scoring: bool = False
    root: str | None = None
    category_ids: array = field(default_factory=_wholes)
    category_names: list[str] = field(default_factory=list)
    videos: Videos = field(default_factory=Videos)
    images: Images = field(default_factory=Images)
    annotations: Annotations = field(default_factory=Annotations)
    _text_ids: dict[str, int] = field(default_factory=dict)
    _read_id: Callable[[Any, str], int] = field(init=False)

    def __post_init__(self) -> None:
        self._read_id = whole if self.for_frames else self._whole_or_text

    def adders(self) -> dict[str, Callable[[Any], None]]:
        """Return the function that adds an entry, by section. It adds all of an entry or nothing.

        The functions raise `FieldError` for a field that is missing or invalid.
        """
        return {
            "info": self._add_info,
            "categories": self._add_category,
            "videos": self._add_video,
            "images": self._add_image,
            "annotations": self._add_annotation,
        }

    def categories(self) -> tuple[Category, ...]:
        """Return the classes, in the file's order; not for text ids."""
        ids = self.category_ids
        return tuple(Category(*one) for one in zip(ids, self.category_names, strict=True))

    def ids_of(self, column: array | np.ndarray) -> list[Id]:
        """Return the ids of a column as the file has them, text included."""
        if not self._text_ids:
            return column.tolist()
        texts = list(self._text_ids)
        return [
            texts[id_ - _FIRST_TEXT_ID] if id_ < LEAST_WHOLE else id_ for id_ in column.tolist()
        ]

    def _add_info(self, entry: Any) -> None:
        if isinstance(entry, dict) and entry.get("root") is not None:  # some have null or a remark
            self.root = text(entry, "root")

    def _add_category(self, entry: Any) -> None:
        category_id, name = self._read_id(entry, "id"), text(entry, "name")
        self.category_ids.append(category_id)
        self.category_names.append(name)

    def _add_video(self, entry: Any) -> None:
        video_id, videos = self._read_id(entry, "id"), self.videos
        if not self.for_frames:
            videos.names.append(str(entry.get("name") or entry.get("file_name") or entry["id"]))
            videos.ids.append(video_id)
            return
        file = None if entry.get("file_name") is None else text(entry, "file_name")
        name = text(entry, "name") if "name" in entry else file or str(video_id)
        height, width = size(entry, "height"), size(entry, "width")
        videos.ids.append(video_id)
        videos.names.append(name)
        videos.files.append(file)
        videos.heights.append(height)
        videos.widths.append(width)

    def _add_image(self, entry: Any) -> None:
        image_id, images, for_frames = self._read_id(entry, "id"), self.images, self.for_frames
        in_video = entry.get("video_id") is not None
        video_id = self._read_id(entry, "video_id") if in_video else MISSING
        frame_id = whole(entry, "frame_id", None if in_video and for_frames else MISSING)
        if for_frames:
            name = text(entry, "file_name")
            height, width = size(entry, "height"), size(entry, "width")
            images.heights.append(height)
            images.widths.append(width)
            images.is_target.append(bool(entry.get("is_vid_train_frame", True)))
            if ".." in name or name[0] == "/":
                images.unusual_names.append(len(images.ids))
        else:
            name = str(entry.get("file_name") or "")
        images.ids.append(image_id)
        images.video_ids.append(video_id)
        images.frame_ids.append(frame_id)
        images.file_names.append(name)
        if self.for_scoring:
            degradation = entry.get("degradation")  # another tool's may have another form
            is_known = isinstance(degradation, dict)
            images.is_degraded.append(bool(degradation) if is_known else -1)

    def _add_annotation(self, entry: Any) -> None:
        annotations = self.annotations
        box_id = whole(entry, "id") if self.for_frames else MISSING
        image_id, category_id = (
            self._read_id(entry, "image_id"),
            self._read_id(entry, "category_id"),
        )
        instance_id = MISSING
        if entry.get("instance_id") is not None:
            instance_id = self._read_id(entry, "instance_id")
        area = motion_iou = math.nan
        if self.for_scoring:
            if entry.get("area") is not None:
                area = finite(entry, "area")
            if entry.get("motion_iou") is not None:
                motion_iou = finite(entry, "motion_iou")
        try:
            x, y, width, height = entry["bbox"]
            annotations.boxes_xywh.extend((x, y, width, height))
        except (KeyError, TypeError, ValueError, OverflowError):
            del annotations.boxes_xywh[4 * len(annotations.image_ids) :]
            raise FieldError.of(entry, "bbox", "four numbers [x, y, width, height]") from None
        annotations.image_ids.append(image_id)
        annotations.category_ids.append(category_id)
        annotations.instance_ids.append(instance_id)
        annotations.is_crowd.append(bool(entry.get("iscrowd", False)))
        if self.for_frames:
            annotations.ids.append(box_id)
        if self.for_scoring:
            annotations.areas.append(area)
            annotations.motion_iou.append(motion_iou)

    def _whole_or_text(self, entry: Any, key: str) -> int:
        """Return a whole-number id, or the number that stands for a text id."""
        if isinstance(entry, dict) and type(entry.get(key)) is str:
            return self._text_ids.setdefault(entry[key], _FIRST_TEXT_ID + len(self._text_ids))
        try:
            return whole(entry, key)
        except FieldError:
            raise FieldError.of(entry, key, "a whole number or text") from None


def read_annotation_file(
    path: Path,
    *,
    for_frames: bool = True,
    for_scoring: bool = False,
    skip: Mapping[str, Container[int]] | None = None,
) -> AnnotationFile:
    """Read the columns of the COCO or COCO-VID JSON at `path`.

    Args:
        path: Path of the file.
        for_frames, for_scoring: Fields to read; see `AnnotationFile`.
        skip: Positions of entries to ignore, by section.

    Raises:
        DataError: unreadable file, a section that is missing, or an entry with a field missing or
            invalid, named by section, position and id.
    """
    content = AnnotationFile(path, for_frames, for_scoring)
    add = content.adders()
    for section, entries in annotation_sections(path):
        add_entry = add[section]
        numbered: Iterable[tuple[int, Any]] = enumerate(entries)
        if skip is not None:
            ignored = skip.get(section, ())
            numbered = (pair for pair in numbered if pair[0] not in ignored)
        for position, entry in numbered:
            try:
                add_entry(entry)
            except FieldError as error:
                where = f"{path}: {entry_place(section, position, entry)}"
                raise DataError(f"{where}: {error}") from None
    return content


def annotation_sections(
    path: Path, lists: Collection[str] = SECTIONS
) -> Iterator[tuple[str, Iterator[Any]]]:
    """Yield `info` and `SECTIONS` by name, each with its entries, in the file's order.

    Args:
        path: Path of the file.
        lists: Sections that must be lists; another value would be the section's only entry.

    Raises:
        DataError: unreadable file; `images`, `annotations` or `categories` is missing; a section
            that must be a list is not one.
    """
    found = set()
    for section, entries in stream_sections(path, lists):
        found.add(section)
        if section in ("info", *SECTIONS):
            yield section, entries
    for section in ("images", "annotations", "categories"):
        if section not in found:
            raise DataError(
                f"{path}: no {section!r}: expected a COCO file with images, annotations and "
                f"categories, got {', '.join(sorted(found)[:8]) or 'nothing'}",
                hint="run `sparsevod prepare-vid` to write such a file",
            )


def entry_place(section: str, position: int, entry: Any) -> str:
    """Return what errors call an entry: `images[5] (id 40)`."""
    return place(section, position, entry.get("id") if isinstance(entry, dict) else None)


def place(section: str, position: int, id_: object = None) -> str:
    """Return what errors call an entry with the given id, if any."""
    return f"{section}[{position}]" + ("" if id_ is None else f" (id {str(id_)[:40]})")


def is_video_file(file_name: str | None) -> TypeGuard[str]:
    """Return True if the `file_name` of a video is a video file, not a folder of images."""
    return bool(file_name and _VIDEO_FILE.search(file_name))


def as_numbers(column: array) -> np.ndarray:
    """Return a column as an array that shares its memory."""
    return np.frombuffer(column, _DTYPES[column.typecode])
