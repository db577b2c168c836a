"""Class names of a foreign checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sparsevod_core.class_lists.coco import COCO_CATEGORIES
from sparsevod_core.class_lists.imagenet_vid import IMAGENET_VID_CLASSES
from sparsevod_core.structures import Category

IMAGENET_VID_CATEGORIES = tuple(Category(c.id, c.name) for c in IMAGENET_VID_CLASSES)


def categories_of(num_classes: int, meta: Any) -> tuple[Category, ...]:
    """Return categories with names from the file's `meta`, or those of COCO or ImageNet VID."""
    names = _class_names(meta)
    if names is None or len(names) != num_classes:
        names = None
    for standard in (COCO_CATEGORIES, IMAGENET_VID_CATEGORIES):
        if len(standard) == num_classes and names in (None, [c.name for c in standard]):
            return standard
    names = names or [f"class {number}" for number in range(1, num_classes + 1)]
    return tuple(Category(number, name) for number, name in enumerate(names, start=1))


def _class_names(meta: Any) -> list[str] | None:
    """Return `meta["dataset_meta"]["classes"]` (OpenMMLab since 2022) or `meta["CLASSES"]`."""
    meta = meta if isinstance(meta, Mapping) else {}
    data_set = meta.get("dataset_meta")
    data_set = data_set if isinstance(data_set, Mapping) else {}
    names = data_set.get("classes") or data_set.get("CLASSES") or meta.get("CLASSES")
    is_list = isinstance(names, list | tuple) and all(isinstance(name, str) for name in names)
    return list(names) if is_list else None
