"""Reads COCO and COCO-VID annotation files, for training and for scoring.

Every entry is checked on its own here; `annotation_fit` checks that entries fit together.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Callable, Collection, Container, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np

from sparsevod_core.category import Category
from sparsevod_core.data.annotation_columns import Annotations, Images, Videos
from sparsevod_core.data.json_fields import (
    LEAST_WHOLE,
    MISSING,
    FieldError,
    Id,
    finite,
    flag,
    size,
    text,
    whole,
)
from sparsevod_core.data.json_stream import stream_sections
from sparsevod_core.errors import DataError
from sparsevod_core.video.kinds import is_video

SECTIONS = ("categories", "videos", "images", "annotations")
_FIRST_TEXT_ID = MISSING + 1


@dataclass(slots=True)
class AnnotationFile:
    """Columns of an annotation file.

    Attributes:
        for_frames: If True, read everything that loading frames needs: file names, sizes,
            `is_vid_train_frame`, video files and ids of annotations; ids are whole numbers. If
            False, only file names are read, if there are any, and ids may be text; see `ids_of`.
        for_scoring: If True, read `area`, `motion_iou` and `degradation`.
        root: `info.root`, the folder that file names start from.
    """

    path: Path
    for_frames: bool = True
    for_scoring: bool = False
    root: str | None = None
    category_ids: array = field(default_factory=partial(array, "q"))
    category_names: list[str] = field(default_factory=list)
    videos: Videos = field(default_factory=Videos)
    images: Images = field(default_factory=Images)
    annotations: Annotations = field(default_factory=Annotations)
    _text_ids: dict[str, int] = field(default_factory=dict)
    _read_id: Callable[[Any, str], int] = field(init=False)

    def __post_init__(self) -> None:
        self._read_id = whole if self.for_frames else partial(whole_or_text, self._text_ids)

    def adders(self) -> dict[str, Callable[[Any], None]]:
        """Return the function of each section that adds an entry.

        It raises `FieldError`, and adds nothing, if a field is missing or invalid.
        """
        return {
            "info": self._add_info,
            "categories": self._add_category,
            "videos": self._add_video,
            "images": self._add_image,
            "annotations": self._add_annotation,
        }

    def categories(self) -> tuple[Category, ...]:
        """Return the classes in the file's order, if their ids are whole numbers."""
        return tuple(map(Category, self.category_ids, self.category_names))

    def ids_of(self, column: np.ndarray) -> list[Id]:
        """Return the ids of a column as the file has them, text included."""
        if not self._text_ids:
            return column.tolist()
        texts = list(self._text_ids)
        return [
            id_ if id_ >= LEAST_WHOLE else texts[id_ - _FIRST_TEXT_ID] for id_ in column.tolist()
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
        if self.for_frames:
            file = None if entry.get("file_name") is None else text(entry, "file_name")
            name = text(entry, "name") if "name" in entry else file or str(video_id)
            height, width = size(entry, "height"), size(entry, "width")
            videos.files.append(file)
            videos.heights.append(height)
            videos.widths.append(width)
        else:
            name = str(entry.get("name") or entry.get("file_name") or entry["id"])
        videos.ids.append(video_id)
        videos.names.append(name)

    def _add_image(self, entry: Any) -> None:
        image_id, images, for_frames = self._read_id(entry, "id"), self.images, self.for_frames
        in_video = entry.get("video_id") is not None
        video_id = self._read_id(entry, "video_id") if in_video else MISSING
        frame_id = whole(entry, "frame_id", None if in_video and for_frames else MISSING)
        if for_frames:
            name = text(entry, "file_name")
            height, width = size(entry, "height"), size(entry, "width")
            is_target = flag(entry, "is_vid_train_frame", default=True)
            images.heights.append(height)
            images.widths.append(width)
            images.is_target.append(is_target)
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
            images.is_degraded.append(bool(degradation) if isinstance(degradation, dict) else -1)

    def _add_annotation(self, entry: Any) -> None:
        annotations, read_id = self.annotations, self._read_id
        box_id = whole(entry, "id") if self.for_frames else MISSING
        image_id, category_id = read_id(entry, "image_id"), read_id(entry, "category_id")
        has_instance = entry.get("instance_id") is not None
        instance_id = read_id(entry, "instance_id") if has_instance else MISSING
        if self.for_scoring:
            area = finite(entry, "area", math.nan)
            motion_iou = finite(entry, "motion_iou", math.nan)
        is_crowd = flag(entry, "iscrowd") or ("ignore" in entry and flag(entry, "ignore"))
        try:
            x, y, width, height = entry["bbox"]
            annotations.boxes_xywh.extend((x, y, width, height))
        except (KeyError, TypeError, ValueError, OverflowError):
            del annotations.boxes_xywh[4 * len(annotations.image_ids) :]
            raise FieldError.of(entry, "bbox", "four numbers [x, y, width, height]") from None
        annotations.image_ids.append(image_id)
        annotations.category_ids.append(category_id)
        annotations.instance_ids.append(instance_id)
        annotations.is_crowd.append(is_crowd)
        if self.for_frames:
            annotations.ids.append(box_id)
        if self.for_scoring:
            annotations.areas.append(area)
            annotations.motion_iou.append(motion_iou)


def whole_or_text(text_ids: dict[str, int], entry: Any, key: str) -> int:
    """Return a whole-number id, or the number that stands for a text id."""
    if isinstance(entry, dict) and type(entry.get(key)) is str:
        return text_ids.setdefault(entry[key], _FIRST_TEXT_ID + len(text_ids))
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
        for_frames, for_scoring: Fields to read; see `AnnotationFile`.
        skip: Positions of entries to ignore, by section.

    Raises:
        DataError: unreadable file, a section that is missing, or an entry with a field missing or
            invalid, named by section, position and id.
    """
    content, skip = AnnotationFile(path, for_frames, for_scoring), skip or {}
    add = content.adders()
    for section, entries in annotation_sections(path):
        add_entry, ignored = add[section], skip.get(section, ())
        for position, entry in enumerate(entries):
            try:
                if not ignored or position not in ignored:
                    add_entry(entry)
            except FieldError as error:
                where = f"{path}: {entry_place(section, position, entry)}"
                raise DataError(f"{where}: {error}") from None
    return content


def read_valid_entries(
    content: AnnotationFile,
    report: Callable[[str, int, Any, str], None],
    lists: Collection[str] = SECTIONS,
) -> dict[str, array]:
    """Add the valid entries of a file to `content`.

    Args:
        content: The file, without entries.
        report: Receives the section, the position, the entry and the problem of each invalid entry.
        lists: Sections that must be lists.

    Returns:
        Positions in the file of the added entries, by section.

    Raises:
        DataError: unreadable file, or a section that is missing.
    """
    add = content.adders()
    positions = {section: array("q") for section in add}
    for section, entries in annotation_sections(content.path, lists):
        for position, entry in enumerate(entries):
            try:
                add[section](entry)
                positions[section].append(position)
            except FieldError as error:
                report(section, position, entry, str(error))
    return positions


def annotation_sections(
    path: Path, lists: Collection[str] = SECTIONS
) -> Iterator[tuple[str, Iterator[Any]]]:
    """Yield `info` and each of `SECTIONS`, with their entries, in the file's order.

    Args:
        lists: Sections that must be lists; another value is the only entry of its section.

    Raises:
        DataError: unreadable file; no `images`, `annotations` or `categories`; no list where there
            must be one.
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
    """Return what errors call the entry at `position` with an id, if it is given."""
    text_id = str(id_)[:40]
    if not text_id.isprintable():
        text_id = ascii(text_id)
    return f"{section}[{position}]" + ("" if id_ is None else f" (id {text_id})")


def is_video_file(file_name: str | None) -> TypeGuard[str]:
    """Return True if the `file_name` of a video is a video file, not a folder of images."""
    return file_name is not None and is_video(file_name)
