"""Lenient reader of COCO and COCO-VID JSON into columns; reports and skips invalid entries.

Unlike with `AnnotationFile`, which training and evaluation use, a size, a frame number, an
annotation's id or `videos` may be missing, and an invalid entry does not affect the others.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Int

from sparsevod_core.data.annotation_columns import FileNames, as_numbers
from sparsevod_core.data.annotation_file import AnnotationFile, entry_place, read_valid_entries
from sparsevod_core.data.annotation_fit import FitCheck, positions_of
from sparsevod_core.data.json_fields import MISSING, FieldError, box_xywh, text, whole

CROWD, OCCLUDED, GENERATED = 1, 2, 4
"""Bits of `CocoEntries.box_flags`."""

_whole = partial(whole, from_text=True)
_MOST_PIXELS = (1 << 16) - 1


@dataclass(slots=True)
class CocoEntries(AnnotationFile):
    """Columns of all valid entries. `images.is_target` is -1 for an entry without the field.

    Attributes:
        names: Class names by id.
        video_of: Name and `file_name` (or None) of each video by id.
        box_flags: `CROWD`, `OCCLUDED` and `GENERATED` of each annotation.
        problems: A line for each skipped entry.
        file_names: File name of each image.
        is_usable: True for each image whose id is not that of an earlier one.
        image_of_box: Position of each annotation's image; -1 for an annotation that is skipped.
        box_positions: Position of each annotation in the file.
    """

    names: dict[int, str] = field(default_factory=dict)
    video_of: dict[int, tuple[str, str | None]] = field(default_factory=dict)
    box_flags: array = field(default_factory=partial(array, "q"))
    problems: list[str] = field(default_factory=list)
    file_names: FileNames = field(init=False)
    is_usable: Bool[np.ndarray, " n"] = field(init=False)
    image_of_box: Int[np.ndarray, " m"] = field(init=False)
    box_positions: Int[np.ndarray, " m"] = field(init=False)

    def skip(self, what: str, reason: str) -> None:
        """Record why `what` is skipped."""
        self.problems.append(f"{self.path}: {what}: {reason}, skipped")

    def _add_info(self, entry: Any) -> None:
        root = entry.get("root") if isinstance(entry, dict) else None  # some have null or a remark
        self.root = root if isinstance(root, str) else None

    def _add_category(self, entry: Any) -> None:
        class_id, name = _whole(entry, "id"), _printable(entry, "name")
        if class_id in self.names:
            raise FieldError(f"class id {class_id} is repeated")
        self.names[class_id] = name
        self.category_ids.append(class_id)
        self.category_names.append(name)

    def _add_video(self, entry: Any) -> None:
        video_id = _whole(entry, "id")
        if video_id in self.video_of:
            raise FieldError(f"video id {video_id} is repeated")
        file = _path(entry, "file_name") if entry.get("file_name") is not None else None
        name = str(entry["name"]) if entry.get("name") else file or str(video_id)
        self.video_of[video_id] = name, file

    def _add_image(self, entry: Any) -> None:
        image_id, video_id = _whole(entry, "id"), _whole(entry, "video_id", MISSING)
        number = "frame_index" if entry.get("frame_id") is None else "frame_id"
        frame_id = _whole(entry, number, MISSING)
        height, width = _size(entry, "height"), _size(entry, "width")
        is_target, images = entry.get("is_vid_train_frame"), self.images
        images.file_names.append(_path(entry, "file_name"))
        images.ids.append(image_id)
        images.video_ids.append(video_id)
        images.frame_ids.append(frame_id)
        images.heights.append(height)
        images.widths.append(width)
        images.is_target.append(-1 if is_target is None else bool(is_target))

    def _add_annotation(self, entry: Any) -> None:
        image_id, class_id = _whole(entry, "image_id"), _whole(entry, "category_id")
        instance = "track_id" if entry.get("instance_id") is None else "instance_id"
        track, annotations = _whole(entry, instance, MISSING), self.annotations
        box_ltwh = box_xywh(entry, from_text=True)
        if min(box_ltwh[2:]) < 0:
            raise FieldError.of(entry, "bbox", "no negative size")
        bits = ("iscrowd", CROWD), ("occluded", OCCLUDED), ("generated", GENERATED)
        annotations.boxes_xywh.extend(box_ltwh)
        annotations.image_ids.append(image_id)
        annotations.category_ids.append(class_id)
        annotations.instance_ids.append(track)
        self.box_flags.append(sum(bit for key, bit in bits if entry.get(key)))


def read_coco_entries(path: Path) -> CocoEntries:
    """Read all usable entries of the JSON at `path`.

    Raises:
        DataError: unreadable file, not JSON, or no `images`, `annotations` or `categories`.
    """

    def report(section: str, position: int, entry: Any, problem: str) -> None:
        entries.skip(entry_place(section, position, entry), problem)

    entries = CocoEntries(path)
    positions = read_valid_entries(entries, report, lists=())
    image_ids, wanted = as_numbers(entries.images.ids), as_numbers(entries.annotations.image_ids)
    entries.file_names = entries.images.file_names.names()
    entries.is_usable = np.ones(len(image_ids), bool)
    entries.image_of_box = positions_of(image_ids, wanted)
    entries.box_positions = as_numbers(positions["annotations"])
    for misfits in FitCheck(entries, for_frames=False, positions=positions).misfits():
        if misfits.section == "images":
            entries.is_usable &= ~misfits.entries
        elif misfits.section == "annotations":
            entries.image_of_box[misfits.entries] = -1
        else:
            continue  # ids are unique here, and `categories_of` refuses repeated names
        for n in np.flatnonzero(misfits.entries).tolist():
            entries.problems.append(f"{path}: {misfits.describe(n)}, skipped")
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
