"""The boxes that detections are scored against, exactly as a COCO annotation file states them."""

from __future__ import annotations

import dataclasses
from array import array
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from sparsevod_core.data.json_stream import stream_sections
from sparsevod_core.errors import DataError
from sparsevod_core.evaluation.metrics.json_entries import (
    EntryError,
    Id,
    box_xywh,
    finite,
    own_id,
    position_of,
    require,
    take_each,
)

NO_FRAME = -(2**63)
"""Stands in `GroundTruth.frame_ids` for an image whose place in its video the file does not say."""

UNTOLD, CLEAN, DEGRADED = -1, 0, 1
"""Stand in `GroundTruth.conditions` for what the file's `degradation` says of an image."""


@dataclass(frozen=True, slots=True, eq=False)
class GroundTruth:
    """Images, classes and boxes of an annotation file. F images; M boxes, in the file's order.

    Boxes keep the file's form and precision (xywh, float64): turned into xyxy or float32 and back,
    a box that overlaps by exactly 0.5 can lose its match.

    Attributes:
        path: the file, named in errors and results.
        image_ids: in ascending order, the order in which pycocotools breaks ties between images.
        category_ids: in the file's order.
        category_names: unique, parallel to `category_ids`.
        images: position in `image_ids` of each box.
        categories: position in `category_ids` of each box.
        boxes_xywh: pixels.
        areas: the file's `area`, where it has none width times height.
        is_crowd: boxes that may be found any number of times or not at all.
        instance_ids: equal for one object through its video, counted from 0; -1 where the file has
            no `instance_id`.
        motion_iou: as stored in the file, 0..1; NaN where it is not.
        video_names: of the file's videos, then the file names of images that belong to none.
        video_of_image: position in `video_names` of each image.
        frame_ids: place of each image in its video; `NO_FRAME` where the file has no `frame_id`.
        sizes: height and width of each image, or of its video; 0 where the file has none.
        conditions: of each image `CLEAN` or `DEGRADED` where it has `degradation`, severities by
            kind that are empty for a clean frame, as rendered sets have; else `UNTOLD`.
        file_names: of the images, "" where the file has none.
    """

    path: Path
    image_ids: tuple[Id, ...]
    category_ids: tuple[Id, ...]
    category_names: tuple[str, ...]
    images: Int[np.ndarray, " M"]
    categories: Int[np.ndarray, " M"]
    boxes_xywh: Float[np.ndarray, "M 4"]
    areas: Float[np.ndarray, " M"]
    is_crowd: Bool[np.ndarray, " M"]
    instance_ids: Int[np.ndarray, " M"]
    motion_iou: Float[np.ndarray, " M"]
    video_names: tuple[str, ...]
    video_of_image: Int[np.ndarray, " F"]
    frame_ids: Int[np.ndarray, " F"]
    sizes: Int[np.ndarray, "F 2"]
    conditions: Int[np.ndarray, " F"]
    file_names: tuple[str, ...]

    @classmethod
    def load(cls, path: Path) -> GroundTruth:
        """Read a COCO (or COCO-VID) annotation file; memory grows with the columns only.

        Raises:
            DataError: unreadable file, or the first entry that is broken, named by its position.
        """
        columns = _Columns(path)
        columns.read()
        return columns.truth()

    def restricted_to(self, image_ids: Collection[Id]) -> GroundTruth:
        """The same classes and videos, but only these images and their boxes."""
        wanted = set(image_ids)
        kept = [position for position, id_ in enumerate(self.image_ids) if id_ in wanted]
        new_position = np.full(len(self.image_ids), -1)
        new_position[kept] = np.arange(len(kept))
        boxes = new_position[self.images] >= 0
        return dataclasses.replace(
            self,
            image_ids=tuple(self.image_ids[position] for position in kept),
            images=new_position[self.images[boxes]],
            file_names=tuple(self.file_names[position] for position in kept),
            **{name: getattr(self, name)[boxes] for name in _OF_BOXES},
            **{name: getattr(self, name)[kept] for name in _OF_IMAGES},
        )


_DTYPES = {"q": np.int64, "d": np.float64, "b": np.int8}  # of `array`'s type codes
_OF_BOXES = ("categories", "boxes_xywh", "areas", "is_crowd", "instance_ids", "motion_iou")
_OF_IMAGES = ("video_of_image", "frame_ids", "sizes", "conditions")


class _Columns:
    """An annotation file's entries, one after the other, in columns; joined by `truth`."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._category_at: dict[Id, int] = {}
        self._names: dict[str, int] = {}
        self._video_at: dict[Id, int] = {}
        self._videos: list[tuple[str, int, int]] = []  # name, height, width
        self._image_at: dict[Id, int] = {}
        self._video_ids: list[Id | None] = []
        self._stills: list[str] = []
        self._file_names: list[str] = []
        self._frame_ids, self._sizes = array("q"), array("q")
        self._conditions = array("b")
        self._images, self._categories, self._is_crowd = array("q"), array("q"), array("b")
        self._boxes, self._areas, self._motion_iou = array("d"), array("d"), array("d")
        self._instance_at: dict[Id, int] = {}
        self._instances = array("q")

    def read(self) -> None:
        """All sections; annotations after what they refer to, in a second pass if need be."""
        take = {
            "categories": self._take_category,
            "videos": self._take_video,
            "images": self._take_image,
        }
        found: set[str] = set()
        has_annotations = False
        for section, entries in self._sections():
            found.add(section)
            if section in take:
                take_each(f"{self._path}: {section}", entries, take[section])
            elif section == "annotations" and {"images", "categories"} <= found:
                take_each(f"{self._path}: annotations", entries, self._take_annotation)
                has_annotations = True
        for section in ("images", "annotations", "categories"):
            if section not in found:
                raise DataError(
                    f"{self._path}: not a COCO annotation file: expected a list `{section}`, got "
                    f"an object with {', '.join(sorted(found)) or 'nothing in it'}"
                )
        if not has_annotations:
            for section, entries in self._sections():
                if section == "annotations":
                    take_each(f"{self._path}: annotations", entries, self._take_annotation)

    def _sections(self) -> Iterator[tuple[str, Iterator[Any]]]:
        lists = ("images", "annotations", "categories", "videos")
        return stream_sections(self._path, lists=lists)

    def _take_category(self, entry: Any) -> None:
        _add_id(self._category_at, own_id(entry), "categories")
        name = require(entry, "name")
        if not isinstance(name, str):
            raise EntryError(f"name: expected text, got {name!r}")
        if name in self._names:
            raise EntryError(
                f"the name {name!r} is already that of categories[{self._names[name]}]: "
                "classes are matched by name"
            )
        self._names[name] = len(self._names)

    def _take_video(self, entry: Any) -> None:
        id_ = own_id(entry)
        _add_id(self._video_at, id_, "videos")
        name = str(entry.get("name") or entry.get("file_name") or id_)
        self._videos.append((name, _whole(entry, "height", 0), _whole(entry, "width", 0)))

    def _take_image(self, entry: Any) -> None:
        id_ = own_id(entry)
        _add_id(self._image_at, id_, "images")
        file_name = str(entry.get("file_name") or "")
        self._file_names.append(file_name)
        video = entry.get("video_id")
        if video is None:
            self._stills.append(file_name or str(id_))
        elif not isinstance(video, int | str):
            raise EntryError(f"video_id: expected a whole number or text, got {video!r}")
        self._video_ids.append(video)
        self._frame_ids.append(_whole(entry, "frame_id", NO_FRAME))
        self._sizes.extend((_whole(entry, "height", 0), _whole(entry, "width", 0)))
        degradation = entry.get("degradation")  # another tool's may be of another form
        told = isinstance(degradation, dict)
        self._conditions.append(int(bool(degradation)) if told else UNTOLD)

    def _take_annotation(self, entry: Any) -> None:
        self._images.append(position_of(entry, "image_id", self._image_at, "among the images"))
        self._categories.append(
            position_of(entry, "category_id", self._category_at, "among the categories")
        )
        box = box_xywh(entry)
        self._boxes.extend(box)
        no_area = entry.get("area") is None
        self._areas.append(box[2] * box[3] if no_area else finite(entry, "area"))
        self._is_crowd.append(bool(entry.get("iscrowd", 0)))
        instance = entry.get("instance_id")
        if instance is None:
            self._instances.append(-1)
        elif isinstance(instance, int | str):
            self._instances.append(self._instance_at.setdefault(instance, len(self._instance_at)))
        else:
            raise EntryError(f"instance_id: expected a whole number or text, got {instance!r}")
        no_motion = entry.get("motion_iou") is None
        self._motion_iou.append(np.nan if no_motion else finite(entry, "motion_iou"))

    def truth(self) -> GroundTruth:
        ids = list(self._image_at)
        try:
            order = sorted(range(len(ids)), key=ids.__getitem__)
        except TypeError:
            raise DataError(
                f"{self._path}: images: some ids are numbers and some are text: they have no order"
            ) from None
        rank = np.empty(len(ids), dtype=np.int64)
        rank[order] = np.arange(len(ids))
        videos, sizes = self._join_videos()
        return GroundTruth(
            path=self._path,
            image_ids=tuple(ids[position] for position in order),
            category_ids=tuple(self._category_at),
            category_names=tuple(self._names),
            images=rank[_numbers(self._images)],
            categories=_numbers(self._categories),
            boxes_xywh=_numbers(self._boxes).reshape(-1, 4),
            areas=_numbers(self._areas),
            is_crowd=_numbers(self._is_crowd).astype(bool),
            instance_ids=_numbers(self._instances),
            motion_iou=_numbers(self._motion_iou),
            video_names=tuple(name for name, *_ in self._videos) + tuple(self._stills),
            video_of_image=videos[order],
            frame_ids=_numbers(self._frame_ids)[order],
            sizes=sizes[order],
            conditions=_numbers(self._conditions)[order],
            file_names=tuple(self._file_names[position] for position in order),
        )

    def _join_videos(self) -> tuple[np.ndarray, np.ndarray]:
        """Of each image, in the file's order, the position of its video, and its size."""
        for id_ in self._video_ids:  # scoring needs no `videos`: one that is not listed has its id
            if id_ is not None and id_ not in self._video_at:
                self._video_at[id_] = len(self._videos)
                self._videos.append((str(id_), 0, 0))
        stills = iter(range(len(self._videos), len(self._videos) + len(self._stills)))
        videos = np.array(
            [next(stills) if id_ is None else self._video_at[id_] for id_ in self._video_ids],
            dtype=np.int64,
        )
        of_videos = [size for _, *size in self._videos] + [[0, 0]] * len(self._stills)
        sizes = _numbers(self._sizes).reshape(-1, 2).copy()
        unknown = (sizes == 0).any(axis=1)
        sizes[unknown] = np.array(of_videos, dtype=np.int64).reshape(-1, 2)[videos[unknown]]
        return videos, sizes


def _add_id(positions: dict[Id, int], id_: Id, section: str) -> None:
    position = len(positions)
    if (first := positions.setdefault(id_, position)) != position:
        raise EntryError(f"id {id_!r} is already that of {section}[{first}]")


def _whole(entry: dict[str, Any], key: str, default: int) -> int:
    value = entry.get(key)
    if value is None:
        return default
    if type(value) is float and value.is_integer():  # as some exporters write ids
        value = int(value)
    if type(value) is int and abs(value) < 2**63:  # bool is an int, too
        return value
    raise EntryError(f"{key}: expected a whole number, got {value!r}")


def _numbers(column: array) -> np.ndarray:
    """The column without a copy."""
    return np.frombuffer(column, dtype=_DTYPES[column.typecode])
