"""Reads any COCO or COCO-VID JSON into columns, leaving out and naming the entries that are broken.

Laxer than `annotation_file.py`, which reads what training and evaluation need: here a size, a frame
number, an annotation's id or a whole section may be missing, and one bad entry spoils no other.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sparsevod_core.data.json_stream import stream_sections
from sparsevod_core.errors import DataError

UNKNOWN = -(2**63)
"""Stands for a number that an entry does not have."""
_TARGET = {None: -1, False: 0, True: 1}
_FLAGS = {"iscrowd": 1, "occluded": 2, "generated": 4}


def _column() -> array:
    return array("q")


@dataclass(slots=True)
class CocoEntries:
    """Parallel columns of every entry that can be used.

    Attributes:
        path: the file.
        root: `info.root`, where the file says that names start from.
        names: class names by id.
        videos: name and `file_name` (None without) by id.
        image_ids, image_videos, image_frames, heights, widths: 0 for a size that is not given.
        targets: `is_vid_train_frame`; -1 without.
        file_names: of images.
        box_images, box_classes, box_tracks: of annotations.
        box_flags: 1 for `iscrowd`, 2 for `occluded`, 4 for `generated`.
        boxes_ltwh: end to end.
        box_places: each annotation's position in the file.
        problems: a line for each entry left out.
    """

    path: Path
    root: str | None = None
    names: dict[int, str] = field(default_factory=dict)
    videos: dict[int, tuple[str, str | None]] = field(default_factory=dict)
    image_ids: array = field(default_factory=_column)
    image_videos: array = field(default_factory=_column)
    image_frames: array = field(default_factory=_column)
    heights: array = field(default_factory=_column)
    widths: array = field(default_factory=_column)
    targets: array = field(default_factory=_column)
    file_names: list[str] = field(default_factory=list)
    box_images: array = field(default_factory=_column)
    box_classes: array = field(default_factory=_column)
    box_tracks: array = field(default_factory=_column)
    box_flags: array = field(default_factory=_column)
    boxes_ltwh: array = field(default_factory=lambda: array("d"))
    box_places: array = field(default_factory=_column)
    problems: list[str] = field(default_factory=list)

    def add_info(self, place: int, entry: Mapping[str, Any]) -> None:
        root = entry.get("root")
        self.root = root if isinstance(root, str) else None

    def add_category(self, place: int, entry: Mapping[str, Any]) -> None:
        class_id, name = _whole(entry, "id"), _text(entry, "name")
        if class_id in self.names:
            raise _BrokenError(f"class id {class_id} is there twice")
        self.names[class_id] = name

    def add_video(self, place: int, entry: Mapping[str, Any]) -> None:
        video_id = _whole(entry, "id")
        if video_id in self.videos:
            raise _BrokenError(f"video id {video_id} is there twice")
        file = _path(entry, "file_name") if entry.get("file_name") is not None else None
        name = str(entry["name"]) if entry.get("name") else file or str(video_id)
        self.videos[video_id] = name, file

    def add_image(self, place: int, entry: Mapping[str, Any]) -> None:
        number = "frame_index" if entry.get("frame_id") is None else "frame_id"
        values = (
            _whole(entry, "id"),
            _whole(entry, "video_id", UNKNOWN),
            _whole(entry, number, UNKNOWN),
            _size(entry, "height"),
            _size(entry, "width"),
            _TARGET[None if (flag := entry.get("is_vid_train_frame")) is None else bool(flag)],
        )
        self.file_names.append(_path(entry, "file_name"))
        columns = (
            self.image_ids,
            self.image_videos,
            self.image_frames,
            self.heights,
            self.widths,
            self.targets,
        )
        for column, value in zip(columns, values, strict=True):
            column.append(value)

    def add_annotation(self, place: int, entry: Mapping[str, Any]) -> None:
        track = "track_id" if entry.get("instance_id") is None else "instance_id"
        flags = sum(
            bit
            for bit, key in ((1, "iscrowd"), (2, "occluded"), (4, "generated"))
            if entry.get(key)
        )
        values = (
            _whole(entry, "image_id"),
            _whole(entry, "category_id"),
            _whole(entry, track, UNKNOWN),
            flags,
            place,
        )
        self.boxes_ltwh.extend(_box(entry))
        columns = (
            self.box_images,
            self.box_classes,
            self.box_tracks,
            self.box_flags,
            self.box_places,
        )
        for column, value in zip(columns, values, strict=True):
            column.append(value)


def read_coco_entries(path: Path) -> CocoEntries:
    """Every usable entry of the JSON at `path`.

    Raises:
        DataError: unreadable file, no JSON, or no `images`, `annotations` or `categories`.
    """
    entries = CocoEntries(path)
    add: dict[str, Callable[[int, Mapping[str, Any]], None]] = {
        "info": entries.add_info,
        "categories": entries.add_category,
        "videos": entries.add_video,
        "images": entries.add_image,
        "annotations": entries.add_annotation,
    }
    found = set()
    for section, content in stream_sections(path):
        found.add(section)
        if section in add:
            _add_all(entries, section, content, add[section])
    for section in ("images", "annotations", "categories"):
        if section not in found:
            raise DataError(
                f"{path}: no {section!r}: expected COCO's images, annotations and categories, got "
                f"{', '.join(sorted(found)[:8]) or 'nothing'}"
            )
    return entries


def _add_all(
    entries: CocoEntries,
    section: str,
    content: Iterator[Any],
    add: Callable[[int, Mapping[str, Any]], None],
) -> None:
    for place, entry in enumerate(content):
        if isinstance(entry, dict):
            try:
                add(place, entry)
                continue
            except _BrokenError as error:
                reason = str(error)
        else:
            reason = f"expected an object, got {repr(entry)[:60]}"
        if section != "info":  # people write null or a remark there
            named = (
                f" (id {str(entry['id'])[:40]})"
                if isinstance(entry, dict) and "id" in entry
                else ""
            )
            entries.problems.append(
                f"{entries.path}: {section}[{place}]{named}: {reason}, left out"
            )


class _BrokenError(Exception):
    """What is wrong with one entry."""


def _wrong(entry: Mapping[str, Any], key: str, expected: str) -> _BrokenError:
    got = repr(entry[key])[:60] if key in entry else "none"
    return _BrokenError(f"{key}: expected {expected}, got {got}")


def _whole(entry: Mapping[str, Any], key: str, otherwise: int | None = None) -> int:
    value = entry.get(key)
    if value is None and otherwise is not None:
        return otherwise
    if type(value) is str and value.isascii() and value.isdigit():
        value = int(value[:30])
    if type(value) is float and value.is_integer():  # as some exporters write ids
        value = int(value)
    if type(value) is int and UNKNOWN < value < 2**63:  # bool is an int, too
        return value
    raise _wrong(entry, key, "a whole number")


def _size(entry: Mapping[str, Any], key: str) -> int:
    size = _whole(entry, key, 0)
    if 0 <= size < 1 << 16:
        return size
    raise _wrong(entry, key, "a size in pixels")


def _text(entry: Mapping[str, Any], key: str) -> str:
    value = entry.get(key)
    if isinstance(value, str) and value and "\0" not in value and value.isprintable():
        return value
    raise _wrong(entry, key, "text")


def _path(entry: Mapping[str, Any], key: str) -> str:
    """A name that stays below the root."""
    name = _text(entry, key).replace("\\", "/").removeprefix("./")
    if name.startswith("/") or ".." in name.split("/") or name[1:3] == ":/":
        raise _wrong(entry, key, "a name that stays in the data set's folder")
    return name


def _box(entry: Mapping[str, Any]) -> tuple[float, float, float, float]:
    value = entry.get("bbox")
    try:
        left, top, width, height = map(float, value or ())
    except (TypeError, ValueError, OverflowError):
        raise _wrong(entry, "bbox", "four numbers [x, y, width, height]") from None
    if not all(map(math.isfinite, (left, top, width, height))) or width < 0 or height < 0:
        raise _wrong(entry, "bbox", "finite numbers and no negative size")
    return left, top, width, height
