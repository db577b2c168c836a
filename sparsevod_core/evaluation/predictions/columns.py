"""Entries of a results file as columns, converted at once, or one by one if any is unusual."""

from __future__ import annotations

from array import array
from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from sparsevod_core.data.json_fields import FieldError, Id, box_xywh, finite, require
from sparsevod_core.evaluation.metrics.detection_table import compact_positions

_NUMBERS = {float, int}  # without bool, a subclass of int


class Columns(NamedTuple):
    """D detections in the file's order; the columns of a `DetectionTable`."""

    images: Int[np.ndarray, " D"]
    categories: Int[np.ndarray, " D"]
    boxes_xywh: Float[np.ndarray, "D 4"]
    scores: Float[np.ndarray, " D"]


class InvalidEntryError(Exception):
    """The first entry that cannot be scored; `args` are its position and the reason."""


class KnownIds:
    """Positions of the ground truth's ids, and the file that holds them."""

    def __init__(self, image_ids: Sequence[Id], category_ids: Sequence[Id], file: str) -> None:
        self.images = {id_: n for n, id_ in enumerate(image_ids)}
        self.categories = {id_: n for n, id_ in enumerate(category_ids)}
        self.file = file


def columns_of(entries: Sequence[Any], known: KnownIds) -> Columns:
    """Convert entries of a results file to columns.

    Raises:
        InvalidEntryError: An entry is not an object, lacks a field, or has an unknown id, a box
            that is not four finite numbers or a score that is not finite.
    """
    try:
        if set(map(len, entries)) - {4} and any("video" in entry for entry in entries):
            return _one_by_one(entries, known)
        images = [known.images[entry["image_id"]] for entry in entries]
        categories = [known.categories[entry["category_id"]] for entry in entries]
        boxes = [entry["bbox"] for entry in entries]
        scores = [entry["score"] for entry in entries]
        is_plain = set(map(type, boxes)) == {list} and set(map(len, boxes)) == {4}
        numbers = list(chain.from_iterable(boxes)) if is_plain else []
        is_plain &= {*map(type, numbers), *map(type, scores)} <= _NUMBERS
        columns = _columns(known, images, categories, numbers, scores)
    except (TypeError, ValueError, LookupError, OverflowError):
        return _one_by_one(entries, known)
    if is_plain and np.isfinite(columns.boxes_xywh).all() and np.isfinite(columns.scores).all():
        return columns
    return _one_by_one(entries, known)


def _one_by_one(entries: Sequence[Any], known: KnownIds) -> Columns:
    images, categories, boxes, scores = array("q"), array("q"), array("d"), array("d")
    for position, entry in enumerate(entries):
        try:
            _require_ids_of_a_set(entry, known)
            among = f"among the images of {known.file}"
            images.append(_position_of(entry, "image_id", known.images, among))
            among = f"among the categories of {known.file}"
            categories.append(_position_of(entry, "category_id", known.categories, among))
            boxes.extend(box_xywh(entry))
            scores.append(finite(entry, "score"))
        except FieldError as error:
            raise InvalidEntryError(position, str(error)) from None
    return _columns(known, images, categories, boxes, scores)


def _require_ids_of_a_set(entry: Any, known: KnownIds) -> None:
    """Refuse what `sparsevod detect` writes without annotations, see `CocoResults`."""
    if isinstance(entry, dict) and "video" in entry:
        raise FieldError(
            f"image_id {entry.get('image_id')} is the frame's number in {entry['video']}, "
            f"not the id of an image of {known.file}"
        )


def _position_of(entry: Any, key: str, positions: Mapping[Any, int], among: str) -> int:
    """Return the position of the id at `key`; an error says what it is not `among`."""
    id_ = require(entry, key)
    # 3.0, as a spreadsheet or pandas writes it, finds 3.
    position = positions.get(id_) if isinstance(id_, int | float | str) else None
    if position is None:
        raise FieldError(f"{key} {repr(id_)[:80]} is not {among}")
    return position


def _columns(known: KnownIds, images: Any, categories: Any, boxes: Any, scores: Any) -> Columns:
    return Columns(
        np.array(images, dtype=np.int32),
        np.array(categories, dtype=compact_positions(len(known.categories))),
        np.array(boxes, dtype=np.float64).reshape(-1, 4),
        np.array(scores, dtype=np.float64),
    )
