"""Fields of JSON entries, checked one by one, so that a broken entry is named by its position."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from sparsevod_core.errors import DataError

Id = int | str
"""An image or category id: COCO's are whole numbers, other people's are sometimes text."""


class EntryError(Exception):
    """What is wrong with an entry; who knows its file and position makes it a `DataError`."""


def take_each(where: str, entries: Iterable[Any], take: Callable[[Any], None]) -> None:
    """`take` every entry.

    Raises:
        DataError: what `take` found wrong, at `where[position]`.
    """
    for position, entry in enumerate(entries):
        try:
            take(entry)
        except EntryError as error:
            raise DataError(f"{where}[{position}]: {error}") from None


def require(entry: Any, key: str) -> Any:
    """`entry[key]`."""
    if not isinstance(entry, dict):
        raise EntryError(f"expected an object, got {kind(entry)}")
    if key not in entry:
        raise EntryError(f"`{key}` is missing")
    return entry[key]


def own_id(entry: Any) -> Id:
    """`entry["id"]`, a whole number or text."""
    id_ = require(entry, "id")
    if isinstance(id_, bool) or not isinstance(id_, int | str):
        raise EntryError(f"id: expected a whole number or text, got {id_!r}")
    return id_


def position_of(entry: Any, key: str, positions: Mapping[Id, int], among: str) -> int:
    """The position of the id that `entry[key]` names; an error says what it is not `among`."""
    id_ = require(entry, key)
    # 3.0, as a spreadsheet or pandas writes it, finds 3.
    position = positions.get(id_) if isinstance(id_, int | float | str) else None  # type: ignore[arg-type]
    if position is None:
        raise EntryError(f"{key} {id_!r} is not {among}")
    return position


def finite(entry: Any, key: str) -> float:
    """`entry[key]`, a finite number."""
    number = require(entry, key)
    if not _is_finite(number):
        raise EntryError(f"{key}: expected a finite number, got {number!r}")
    return float(number)


def box_xywh(entry: Any) -> list[float]:
    """`entry["bbox"]`: left, top, width, height, all finite."""
    box = require(entry, "bbox")
    if not isinstance(box, list) or len(box) != 4 or not all(map(_is_finite, box)):
        raise EntryError(f"bbox: expected four finite numbers [x, y, width, height], got {box!r}")
    return [float(number) for number in box]


def kind(value: Any) -> str:
    """What a JSON value is, in JSON's words."""
    if isinstance(value, dict):
        return "an object with " + (", ".join(map(str, list(value)[:6])) or "nothing in it")
    return {list: "a list", str: "text", type(None): "null"}.get(type(value), repr(value))


def _is_finite(number: Any) -> bool:
    # A bool is no number here, and a whole number may be beyond float's range.
    return type(number) in (float, int) and -sys.float_info.max <= number <= sys.float_info.max
