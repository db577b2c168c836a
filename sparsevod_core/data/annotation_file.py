"""Reads a COCO-VID annotation file into flat columns, one array element per entry and field.

Here every entry is checked by itself; `records.py` joins them by id.
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Callable, Container, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sparsevod_core.category import Category
from sparsevod_core.data.json_stream import stream_sections
from sparsevod_core.errors import DataError

NO_VIDEO = -(2**63)
"""Stands in `Images.video_ids` for an image that belongs to no video."""

_NOT_IN_NAMES = re.compile("[\0\ud800-\udfff]")  # JSON can write them, a file name cannot hold them


def _ids() -> array:
    return array("q")


def _flags() -> array:
    return array("b")


@dataclass(slots=True)
class Videos:
    """`videos`: parallel lists; `files` has None where the entry names no file."""

    ids: array = field(default_factory=_ids)
    names: list[str] = field(default_factory=list)
    files: list[str | None] = field(default_factory=list)
    heights: array = field(default_factory=_ids)
    widths: array = field(default_factory=_ids)

    def add(self, entry: dict[str, Any]) -> None:
        self.ids.append(_integer(entry, "id"))
        file = entry.get("file_name")
        self.files.append(None if file is None else _text(entry, "file_name"))
        name = "name" if "name" in entry else "file_name" if file is not None else None
        self.names.append(str(entry["id"]) if name is None else _text(entry, name))
        self.heights.append(_size(entry, "height"))
        self.widths.append(_size(entry, "width"))


@dataclass(slots=True)
class Images:
    """`images`: parallel columns; 0 for a size that is not given.

    A file name is split behind its last slash. Folders, of which there are few, are numbered in
    `folders`; the rest of the names lies end to end in `name_bytes` (UTF-8), that of image i ends
    at `name_ends[i]`: a million `str` objects would take more memory than everything else
    together. `unusual_names` are the entries whose name may lead out of the root.
    """

    ids: array = field(default_factory=_ids)
    video_ids: array = field(default_factory=_ids)
    frame_ids: array = field(default_factory=_ids)
    heights: array = field(default_factory=_ids)
    widths: array = field(default_factory=_ids)
    is_target: array = field(default_factory=_flags)
    folders: dict[str, int] = field(default_factory=dict)
    folder_of: array = field(default_factory=lambda: array("i"))
    name_bytes: bytearray = field(default_factory=bytearray)
    name_ends: array = field(default_factory=_ids)
    unusual_names: array = field(default_factory=_ids)

    def add(self, entry: dict[str, Any]) -> None:
        self.ids.append(_integer(entry, "id"))
        in_video = entry.get("video_id") is not None
        self.video_ids.append(_integer(entry, "video_id") if in_video else NO_VIDEO)
        self.frame_ids.append(_integer(entry, "frame_id") if in_video else 0)
        self.heights.append(_size(entry, "height"))
        self.widths.append(_size(entry, "width"))
        self.is_target.append(bool(entry.get("is_vid_train_frame", True)))
        name = _text(entry, "file_name")
        if ".." in name or name[0] == "/":
            self.unusual_names.append(len(self.name_ends))
        folder, slash, rest = name.rpartition("/")
        self.folder_of.append(self.folders.setdefault(folder + slash, len(self.folders)))
        self.name_bytes += rest.encode()
        self.name_ends.append(len(self.name_bytes))


@dataclass(slots=True)
class Annotations:
    """`annotations`: parallel columns, boxes end to end; -1 for an instance that is not given."""

    ids: array = field(default_factory=_ids)
    image_ids: array = field(default_factory=_ids)
    category_ids: array = field(default_factory=_ids)
    instance_ids: array = field(default_factory=_ids)
    is_crowd: array = field(default_factory=_flags)
    boxes_xywh: array = field(default_factory=lambda: array("d"))

    def add(self, entry: dict[str, Any]) -> None:
        self.ids.append(_integer(entry, "id"))
        self.image_ids.append(_integer(entry, "image_id"))
        self.category_ids.append(_integer(entry, "category_id"))
        has_instance = entry.get("instance_id") is not None
        self.instance_ids.append(_integer(entry, "instance_id") if has_instance else -1)
        self.is_crowd.append(bool(entry.get("iscrowd", False)))
        try:
            x, y, width, height = entry["bbox"]
            self.boxes_xywh.extend((x, y, width, height))
        except (KeyError, TypeError, ValueError, OverflowError):
            raise _FieldError(entry, "bbox", "four numbers [x, y, width, height]") from None


@dataclass(slots=True)
class AnnotationFile:
    """Everything of a COCO-VID file that training and evaluation on video need."""

    path: Path
    root: str | None = None
    """`info.root`: where the file says that its frames lie."""
    categories: list[Category] = field(default_factory=list)
    videos: Videos = field(default_factory=Videos)
    images: Images = field(default_factory=Images)
    annotations: Annotations = field(default_factory=Annotations)

    def adders(self) -> dict[str, Callable[[dict[str, Any]], None]]:
        """What takes the entries of each section."""
        return {
            "info": self._add_info,
            "categories": self._add_category,
            "videos": self.videos.add,
            "images": self.images.add,
            "annotations": self.annotations.add,
        }

    def _add_category(self, entry: dict[str, Any]) -> None:
        self.categories.append(Category(_integer(entry, "id"), _text(entry, "name")))

    def _add_info(self, entry: dict[str, Any]) -> None:
        if entry.get("root") is not None:
            self.root = _text(entry, "root")


def read_annotation_file(
    path: Path, left_out: Mapping[str, Container[int]] | None = None
) -> AnnotationFile:
    """All columns of the COCO or COCO-VID JSON at `path`; memory grows with the columns only.

    Args:
        path: the file.
        left_out: by section, the positions of entries to pass over.

    Raises:
        DataError: unreadable file, a section that is missing, or an entry with a field missing or
            of the wrong kind, named by section, position and id.
    """
    content = AnnotationFile(path)
    add = content.adders()
    found = set()
    for section, entries in stream_sections(path):
        found.add(section)
        if section == "info":  # people write null or a remark there
            entries = (entry for entry in entries if isinstance(entry, dict))
        if section in add:
            passed_over = (left_out or {}).get(section, ())
            _add_all(f"{path}: {section}", entries, add[section], passed_over)
    for section in ("images", "annotations", "categories"):
        if section not in found:
            raise DataError(
                f"{path}: no {section!r}: expected a COCO-VID file with images, annotations and "
                f"categories, got {', '.join(sorted(found)) or 'nothing'}",
                hint="`sparsevod prepare-vid` writes such files",
            )
    return content


def field_problem(section: str, entry: object) -> str | None:
    """What is wrong with an entry by itself: a field that is missing or of the wrong kind."""
    if not isinstance(entry, dict):
        return f"expected an object, got {repr(entry)[:80]}"
    try:
        _TRIALS[section](entry)
    except _FieldError as error:
        return str(error)
    return None


_TRIALS: dict[str, Callable[[dict[str, Any]], None]] = {
    "categories": lambda entry: AnnotationFile(Path())._add_category(entry),
    "videos": lambda entry: Videos().add(entry),
    "images": lambda entry: Images().add(entry),
    "annotations": lambda entry: Annotations().add(entry),
}


def _add_all(
    where: str,
    entries: Iterator[Any],
    add: Callable[[dict[str, Any]], None],
    passed_over: Container[int],
) -> None:
    for position, entry in enumerate(entries):
        if position in passed_over:
            continue
        if not isinstance(entry, dict):
            raise DataError(f"{where}[{position}]: expected an object, got {repr(entry)[:80]}")
        try:
            add(entry)
        except _FieldError as error:
            named = f" (id {entry['id']})" if "id" in entry else ""
            raise DataError(f"{where}[{position}]{named}: {error}") from None


class _FieldError(Exception):
    """One field of an entry that is missing or of the wrong kind."""

    def __init__(self, entry: dict[str, Any], key: str, expected: str) -> None:
        got = repr(entry[key])[:80] if key in entry else "none"
        super().__init__(f"{key}: expected {expected}, got {got}")


def _integer(entry: dict[str, Any], key: str) -> int:
    value = entry.get(key)
    if type(value) is float and value.is_integer():  # as some exporters write ids
        value = int(value)
    if type(value) is int and NO_VIDEO < value < 2**63:  # bool is an int, too
        return value
    raise _FieldError(entry, key, "a whole number")


def _size(entry: dict[str, Any], key: str) -> int:
    if entry.get(key) is None:
        return 0
    value = _integer(entry, key)
    if value < 1 or value > 2**31:
        raise _FieldError(entry, key, "a size in pixels")
    return value


def _text(entry: dict[str, Any], key: str) -> str:
    value = entry.get(key)
    if isinstance(value, str) and value and not _NOT_IN_NAMES.search(value):
        return value
    raise _FieldError(entry, key, "text")
