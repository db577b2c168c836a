"""The boxes that detections are scored against, exactly as a COCO annotation file states them."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from sparsevod_core.errors import DataError
from sparsevod_core.evaluation.json_entries import (
    Id,
    box_xywh,
    finite,
    kind,
    position_of,
    read_json,
    require,
)


@dataclass(frozen=True, slots=True)
class GroundTruth:
    """Images, classes and boxes of an annotation file. M boxes, in the file's order.

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

    @classmethod
    def load(cls, path: Path) -> GroundTruth:
        """Read a COCO (or COCO-VID) annotation file.

        Raises:
            DataError: unreadable file, or the first entry that is broken, named by its position.
        """
        content = read_json(path)
        lists = content if isinstance(content, dict) else {}
        for key in ("images", "annotations", "categories"):
            if not isinstance(lists.get(key), list):
                raise DataError(
                    f"{path}: not a COCO annotation file: expected an object with a list "
                    f"`{key}`, got {kind(content)}"
                )
        category_ids, category_names = _read_categories(path, lists["categories"])
        image_ids = _read_ids(path, "images", lists["images"])
        try:
            image_ids.sort()
        except TypeError:
            raise DataError(
                f"{path}: images: some ids are numbers and some are text: they have no order"
            ) from None
        image_at = {id_: position for position, id_ in enumerate(image_ids)}
        category_at = {id_: position for position, id_ in enumerate(category_ids)}

        images, categories, boxes, areas, crowd = [], [], [], [], []
        for index, entry in enumerate(lists["annotations"]):
            where = f"{path}: annotations[{index}]"
            images.append(position_of(entry, "image_id", image_at, where, "among the images"))
            categories.append(
                position_of(entry, "category_id", category_at, where, "among the categories")
            )
            box = box_xywh(entry, where)
            boxes.append(box)
            area = entry.get("area")
            areas.append(box[2] * box[3] if area is None else finite(entry, "area", where))
            crowd.append(bool(entry.get("iscrowd", 0)))
        return cls(
            path=path,
            image_ids=tuple(image_ids),
            category_ids=tuple(category_ids),
            category_names=tuple(category_names),
            images=np.array(images, dtype=np.int64),
            categories=np.array(categories, dtype=np.int64),
            boxes_xywh=np.array(boxes, dtype=np.float64).reshape(-1, 4),
            areas=np.array(areas, dtype=np.float64),
            is_crowd=np.array(crowd, dtype=bool),
        )

    def restricted_to(self, image_ids: Collection[Id]) -> GroundTruth:
        """The same classes, but only these images and their boxes."""
        wanted = set(image_ids)
        kept = [position for position, id_ in enumerate(self.image_ids) if id_ in wanted]
        new_position = np.full(len(self.image_ids), -1)
        new_position[kept] = np.arange(len(kept))
        boxes = new_position[self.images] >= 0
        return dataclasses.replace(
            self,
            image_ids=tuple(self.image_ids[position] for position in kept),
            images=new_position[self.images[boxes]],
            categories=self.categories[boxes],
            boxes_xywh=self.boxes_xywh[boxes],
            areas=self.areas[boxes],
            is_crowd=self.is_crowd[boxes],
        )


def _read_ids(path: Path, key: str, entries: list[Any]) -> list[Any]:
    first_at: dict[Id, int] = {}
    for index, entry in enumerate(entries):
        where = f"{path}: {key}[{index}]"
        id_ = require(entry, "id", where)
        if isinstance(id_, bool) or not isinstance(id_, int | str):
            raise DataError(f"{where}: id: expected a whole number or text, got {id_!r}")
        if first_at.setdefault(id_, index) != index:
            raise DataError(f"{where}: id {id_!r} is already that of {key}[{first_at[id_]}]")
    return list(first_at)


def _read_categories(path: Path, entries: list[Any]) -> tuple[list[Id], list[str]]:
    ids = _read_ids(path, "categories", entries)
    names: list[str] = []
    for index, entry in enumerate(entries):
        name = require(entry, "name", f"{path}: categories[{index}]")
        if not isinstance(name, str):
            raise DataError(f"{path}: categories[{index}]: name: expected text, got {name!r}")
        if name in names:
            raise DataError(
                f"{path}: categories[{index}]: the name {name!r} is already that of "
                f"categories[{names.index(name)}]: classes are matched by name"
            )
        names.append(name)
    return ids, names
