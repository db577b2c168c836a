"""Lenient reader of COCO and COCO-VID JSON into columns; reports and skips invalid entries.

Unlike with `AnnotationFile`, which training and evaluation use, a size, a frame number, an
annotation's id or `videos` may be missing, and an invalid entry does not affect the others. Fields
that tools name differently, or put into `attributes` as CVAT does, are read under all their names.
"""

from __future__ import annotations

from array import array
from collections import defaultdict
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Int

from sparsevod_core.data.annotation_columns import FileNames, as_numbers
from sparsevod_core.data.annotation_file import (
    AnnotationFile,
    entry_place,
    read_valid_entries,
    whole_or_text,
)
from sparsevod_core.data.annotation_fit import FitCheck, positions_of
from sparsevod_core.data.json_fields import (
    MISSING,
    FieldError,
    box_xywh,
    finite,
    flag,
    is_whole_text,
)
from sparsevod_core.errors import DataError
from sparsevod_core.prepare.coco.fields import (
    FRAME_KEYS,
    TRACK_KEYS,
    VIDEO_KEYS,
    box_area,
    first_key,
    name_below_root,
    number,
    outline_ltwh,
    pixels,
    printable,
    slashed_name,
)
from sparsevod_core.prepare.reading.annotated import rotated_extent
from sparsevod_core.reporting import counted

CROWD, OCCLUDED, GENERATED = 1, 2, 4
"""Bits of `CocoEntries.box_flags`."""

_NO_TRACK = ("", "none", "null", "nan")
_FIRST_NAMED_TRACK = 1 << 62
"""Number of the first track with a name; ids in files are smaller."""

_NO_ATTRIBUTES: dict[str, Any] = {}


@dataclass(slots=True)
class CocoEntries(AnnotationFile):
    """Columns of all valid entries. `images.is_target` is -1 for an entry without the field.

    Attributes:
        names: Class names by id.
        video_of: Name and `file_name` (or None) of each video by id.
        box_flags: `CROWD`, `OCCLUDED` and `GENERATED` of each annotation.
        problems: A line for each skipped entry.
        notes: How fields were interpreted, for the user.
        track_names: Number that stands for each track with a name instead of an id.
        unclear: Number of annotations with an unclear flag, and the first of them, by key.
        num_rotated: Number of boxes replaced by their extent, because CVAT rotated them.
        num_outlined: Number of boxes taken from the polygons of `segmentation`.
        num_linked, num_first: Number of images with and without a frame before them, among those
            with `prev_image_id`.
        file_names: File name of each image; may lead out of the root until `places.py` is done.
        is_usable: True for each image whose id is not that of an earlier one.
        image_of_box: Position of each annotation's image; -1 for an annotation that is skipped.
        box_positions: Position of each annotation in the file.
    """

    names: dict[int, str] = field(default_factory=dict)
    video_of: dict[int, tuple[str, str | None]] = field(default_factory=dict)
    box_flags: array = field(default_factory=partial(array, "q"))
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    track_names: dict[str, int] = field(default_factory=dict)
    unclear: dict[str, tuple[int, str]] = field(default_factory=dict)
    num_rotated: int = 0
    num_outlined: int = 0
    num_linked: int = 0
    num_first: int = 0
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
        class_id, name = number(entry, "id"), printable(entry, "name")
        if class_id in self.names:
            raise FieldError(f"class id {class_id} is repeated")
        self.names[class_id] = name
        self.category_ids.append(class_id)
        self.category_names.append(name)

    def _add_video(self, entry: Any) -> None:
        video_id = self._video_id(entry, ("id",))
        if video_id in self.video_of:
            raise FieldError(f"video id {entry['id']} is repeated")
        file = name_below_root(entry, "file_name") if entry.get("file_name") is not None else None
        name = str(entry.get("name") or file or entry["id"])
        if not name.isprintable():
            raise FieldError.of(entry, "name", "printable text")
        self.video_of[video_id] = name, file

    def _add_image(self, entry: Any) -> None:
        image_id, video_id = number(entry, "id"), self._video_id(entry, VIDEO_KEYS)
        frame_id = number(entry, first_key(entry, FRAME_KEYS), MISSING)
        before = entry.get("prev_image_id")
        height, width = pixels(entry, "height"), pixels(entry, "width")
        is_target, images = entry.get("is_vid_train_frame"), self.images
        is_target = -1 if is_target is None else flag(entry, "is_vid_train_frame")
        images.file_names.append(slashed_name(entry, "file_name"))
        images.ids.append(image_id)
        images.video_ids.append(video_id)
        images.frame_ids.append(frame_id)
        images.heights.append(height)
        images.widths.append(width)
        images.is_target.append(is_target)
        if before is not None:
            has_frame_before = str(before).isdigit()  # -1 means none
            self.num_linked += has_frame_before
            self.num_first += not has_frame_before

    def _add_annotation(self, entry: Any) -> None:
        image_id, class_id = number(entry, "image_id"), number(entry, "category_id")
        attributes, annotations = entry.get("attributes"), self.annotations
        if not isinstance(attributes, dict):  # some tools have a list of names
            attributes = _NO_ATTRIBUTES
        track = self._track(entry)
        if track == MISSING and attributes:
            track = self._track(attributes)
        bits = CROWD * (flag(entry, "iscrowd") or ("ignore" in entry and flag(entry, "ignore")))
        with_occluded = attributes if entry.get("occluded") is None else entry
        bits |= OCCLUDED * self._unused_flag(with_occluded, "occluded", entry)
        bits |= GENERATED * self._unused_flag(entry, "generated", entry)
        if attributes.get("keyframe") is not None:
            bits |= GENERATED * (not self._unused_flag(attributes, "keyframe", entry))
        annotations.boxes_xywh.extend(self._box(entry, attributes))
        annotations.image_ids.append(image_id)
        annotations.category_ids.append(class_id)
        annotations.instance_ids.append(track if track >= 0 else MISSING)  # -1 is no track
        annotations.areas.append(box_area(entry))
        self.box_flags.append(bits)

    def _video_id(self, entry: Any, keys: tuple[str, ...]) -> int:
        """Return the id of a video, or the number that stands for a name; see `ids_of`."""
        key = first_key(entry, keys)
        value = entry.get(key) if isinstance(entry, dict) else None
        if isinstance(value, str) and value.strip() and not is_whole_text(value):
            printable(entry, key)
            return whole_or_text(self._text_ids, entry, key)
        return number(entry, key, None if keys == ("id",) else MISSING)

    def _track(self, fields: dict[str, Any]) -> int:
        """Return the id of a track, or the number that stands for a name such as `car_1`."""
        key = first_key(fields, TRACK_KEYS)
        value = fields.get(key) if isinstance(fields, dict) else None
        if isinstance(value, str) and not is_whole_text(value):
            name = value.strip()
            if name.lower() in _NO_TRACK:
                return MISSING
            return self.track_names.setdefault(name, _FIRST_NAMED_TRACK + len(self.track_names))
        return number(fields, key, MISSING)

    def _unused_flag(self, fields: dict[str, Any], key: str, entry: dict[str, Any]) -> bool:
        """Return a flag that training and scoring do not use: the box stays if it is unclear."""
        try:
            return flag(fields, key)
        except FieldError as error:
            count, first = self.unclear.get(key, (0, f"annotation {entry.get('id')}: {error}"))
            self.unclear[key] = count + 1, first
            return False

    def _box(self, entry: dict[str, Any], attributes: dict[str, Any]) -> list[float]:
        if not entry.get("bbox") and entry.get("segmentation"):
            box_ltwh = outline_ltwh(entry)
            self.num_outlined += 1
            return box_ltwh
        box_ltwh = box_xywh(entry, from_text=True)
        if min(box_ltwh[2:]) < 0:
            raise FieldError.of(entry, "bbox", "no negative size")
        if attributes.get("rotation") and not entry.get("segmentation"):
            degrees = finite(attributes, "rotation")
            left, top, width, height = box_ltwh
            corners = rotated_extent((left, top, left + width, top + height), degrees)
            box_ltwh = [*corners[:2], corners[2] - corners[0], corners[3] - corners[1]]
            self.num_rotated += 1
        return box_ltwh


def read_coco_entries(path: Path) -> CocoEntries:
    """Read all usable entries of the JSON at `path`.

    Raises:
        DataError: unreadable file, not JSON, or no `images`, `annotations` or `categories`.
    """

    def report(section: str, position: int, entry: Any, problem: str) -> None:
        entries.skip(entry_place(section, position, entry), problem)

    entries = CocoEntries(path)
    positions = read_valid_entries(entries, report, lists=("categories",))
    if not entries.names:
        reason = next((line for line in entries.problems if "categories[" in line), "it is empty")
        raise DataError(
            f"{path}: `categories`: no class: {reason}",
            hint='use a list such as [{"id": 1, "name": "dog"}]',
        )
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
    _leave_out_unused_twins(entries)
    _describe(entries)
    return entries


def _leave_out_unused_twins(entries: CocoEntries) -> None:
    """Leave out a class without boxes that has the name of another one.

    Roboflow's class 0 stands for the whole project, and may have the name of its only class.
    """
    by_name: defaultdict[str, list[int]] = defaultdict(list)
    for class_id, name in entries.names.items():
        by_name[name].append(class_id)
    twins = [ids for ids in by_name.values() if len(ids) > 1]
    used = set(entries.annotations.category_ids) if twins else set()
    for ids in twins:
        kept = [class_id for class_id in ids if class_id in used] or [max(ids)]
        for class_id in set(ids) - set(kept):
            name = entries.names.pop(class_id)
            entries.notes.append(
                f"{entries.path.name}: class {class_id} is left out: it has no boxes, and class "
                f"{kept[0]} is {name!r}, too"
            )


def _describe(entries: CocoEntries) -> None:
    """Add notes and problems about fields that many entries have."""
    for key, (count, first) in entries.unclear.items():
        entries.problems.append(
            f"{entries.path}: `{key}` is unclear in {count} annotations and read as false; {first}"
        )
    if entries.num_outlined:
        entries.notes.append(
            f"without `bbox`, taken around polygons: {counted(entries.num_outlined, 'box')}"
        )
    if entries.num_rotated:
        entries.notes.append(
            f"rotated, replaced by the extent: {counted(entries.num_rotated, 'box')}"
        )
