"""Reads any COCO or COCO-VID JSON into columns, skipping and naming invalid entries.

More lenient than `data.annotation_file`, which reads what training and evaluation need: a size, a
frame number, an annotation's id or `videos` may be missing, and an invalid entry harms no other.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from sparsevod_core.data import json_fields
from sparsevod_core.data.annotation_file import annotation_sections, entry_place
from sparsevod_core.data.json_fields import MISSING, FieldError, text

CROWD, OCCLUDED, GENERATED = 1, 2, 4
"""Bits of `CocoEntries.box_flags`."""

_whole = partial(json_fields.whole, from_text=True)
_MOST_PIXELS = (1 << 16) - 1


def _column() -> array:
    return array("q")


@dataclass(slots=True)
class CocoEntries:
    """Parallel columns of all usable entries; `MISSING` for a number that an entry does not have.

    Attributes:
        path: Path of the file.
        root: `info.root`, the folder that names start from.
        names: Class names by id.
        videos: Name and `file_name` (or None) by id.
        image_ids, image_videos, image_frames: Of `images`.
        heights, widths: 0 for a size that is not given.
        targets: `is_vid_train_frame`, -1 if not given.
        file_names: Of `images`.
        box_images, box_classes, box_tracks: Of `annotations`.
        box_flags: `CROWD`, `OCCLUDED` and `GENERATED`.
        boxes_ltwh: Boxes, end to end.
        box_positions: Position of each annotation in the file.
        problems: A line for each skipped entry.
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
    box_positions: array = field(default_factory=_column)
    problems: list[str] = field(default_factory=list)

    def skip(self, what: str, reason: str) -> None:
        """Record why `what` is skipped."""
        self.problems.append(f"{self.path}: {what}: {reason}, skipped")

    def add_info(self, _position: int, entry: Any) -> None:
        root = entry.get("root") if isinstance(entry, dict) else None  # some have null or a remark
        self.root = root if isinstance(root, str) else None

    def add_category(self, _position: int, entry: Any) -> None:
        class_id, name = _whole(entry, "id"), _printable(entry, "name")
        if class_id in self.names:
            raise FieldError(f"class id {class_id} is repeated")
        self.names[class_id] = name

    def add_video(self, _position: int, entry: Any) -> None:
        video_id = _whole(entry, "id")
        if video_id in self.videos:
            raise FieldError(f"video id {video_id} is repeated")
        file = _path(entry, "file_name") if entry.get("file_name") is not None else None
        name = str(entry["name"]) if entry.get("name") else file or str(video_id)
        self.videos[video_id] = name, file

    def add_image(self, _position: int, entry: Any) -> None:
        image_id, video_id = _whole(entry, "id"), _whole(entry, "video_id", MISSING)
        number = "frame_index" if entry.get("frame_id") is None else "frame_id"
        frame_id = _whole(entry, number, MISSING)
        height, width = _size(entry, "height"), _size(entry, "width")
        is_target = entry.get("is_vid_train_frame")
        self.file_names.append(_path(entry, "file_name"))
        self.image_ids.append(image_id)
        self.image_videos.append(video_id)
        self.image_frames.append(frame_id)
        self.heights.append(height)
        self.widths.append(width)
        self.targets.append(-1 if is_target is None else bool(is_target))

    def add_annotation(self, position: int, entry: Any) -> None:
        image_id, class_id = _whole(entry, "image_id"), _whole(entry, "category_id")
        track = _whole(
            entry, "track_id" if entry.get("instance_id") is None else "instance_id", MISSING
        )
        box_ltwh = json_fields.box_xywh(entry, from_text=True)
        if min(box_ltwh[2:]) < 0:
            raise FieldError.of(entry, "bbox", "no negative size")
        bits = ("iscrowd", CROWD), ("occluded", OCCLUDED), ("generated", GENERATED)
        self.boxes_ltwh.extend(box_ltwh)
        self.box_images.append(image_id)
        self.box_classes.append(class_id)
        self.box_tracks.append(track)
        self.box_flags.append(sum(bit for key, bit in bits if entry.get(key)))
        self.box_positions.append(position)


def read_coco_entries(path: Path) -> CocoEntries:
    """Read all usable entries of the JSON at `path`.

    Raises:
        DataError: unreadable file, not JSON, or no `images`, `annotations` or `categories`.
    """
    entries = CocoEntries(path)
    add: dict[str, Callable[[int, Any], None]] = {
        "info": entries.add_info,
        "categories": entries.add_category,
        "videos": entries.add_video,
        "images": entries.add_image,
        "annotations": entries.add_annotation,
    }
    for section, values in annotation_sections(path, lists=()):
        add_entry = add[section]
        for position, entry in enumerate(values):
            try:
                add_entry(position, entry)
            except FieldError as error:
                entries.skip(entry_place(section, position, entry), str(error))
    return entries


def _size(entry: dict[str, Any], key: str) -> int:
    pixels = _whole(entry, key, 0)
    if 0 <= pixels <= _MOST_PIXELS:
        return pixels
    raise FieldError.of(entry, key, "a size in pixels")


def _printable(entry: dict[str, Any], key: str) -> str:
    value = text(entry, key)
    if value.isprintable():
        return value
    raise FieldError.of(entry, key, "printable text")


def _path(entry: dict[str, Any], key: str) -> str:
    """Return a file name that stays below the root."""
    name = _printable(entry, key).replace("\\", "/").removeprefix("./")
    if name.startswith("/") or ".." in name.split("/") or name[1:3] == ":/":
        raise FieldError.of(entry, key, "a name that stays in the data set's folder")
    return name
