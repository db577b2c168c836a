"""JSON files of annotations and results, read so that a broken entry is named by its position."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sparsevod_core.errors import DataError

Id = int | str
"""An image or category id: COCO's are whole numbers, other people's are sometimes text."""


def read_json(path: Path) -> Any:
    """The content of a JSON file.

    Raises:
        DataError: missing, unreadable or not JSON.
    """
    try:
        return json.loads(path.read_bytes())
    except OSError as error:
        raise DataError(f"{path}: cannot read the file: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: not a JSON file: {error}") from error


def require(entry: Any, key: str, where: str) -> Any:
    """`entry[key]`, or a `DataError` that begins with `where`."""
    if not isinstance(entry, dict):
        raise DataError(f"{where}: expected an object, got {kind(entry)}")
    if key not in entry:
        raise DataError(f"{where}: `{key}` is missing")
    return entry[key]


def position_of(entry: Any, key: str, positions: Mapping[Id, int], where: str, among: str) -> int:
    """The position of the id that `entry[key]` names; an error says what it is not `among`."""
    id_ = require(entry, key, where)
    # 3.0, as a spreadsheet or pandas writes it, finds 3.
    position = positions.get(id_) if isinstance(id_, int | float | str) else None  # type: ignore[arg-type]
    if position is None:
        raise DataError(f"{where}: {key} {id_!r} is not {among}")
    return position


def finite(entry: Any, key: str, where: str) -> float:
    """`entry[key]`, a finite number."""
    number = require(entry, key, where)
    if not _is_finite(number):
        raise DataError(f"{where}: {key}: expected a finite number, got {number!r}")
    return float(number)


def box_xywh(entry: Any, where: str) -> list[float]:
    """`entry["bbox"]`: left, top, width, height, all finite."""
    box = require(entry, "bbox", where)
    if not isinstance(box, list) or len(box) != 4 or not all(map(_is_finite, box)):
        raise DataError(
            f"{where}: bbox: expected four finite numbers [x, y, width, height], got {box!r}"
        )
    return [float(number) for number in box]


def kind(value: Any) -> str:
    """What a JSON value is, in JSON's words."""
    if isinstance(value, dict):
        return "an object with " + (", ".join(map(str, list(value)[:6])) or "nothing in it")
    return {list: "a list", str: "text", type(None): "null"}.get(type(value), repr(value))


def _is_finite(number: Any) -> bool:
    if isinstance(number, bool) or not isinstance(number, int | float):
        return False
    try:
        return math.isfinite(number)
    except OverflowError:  # a whole number beyond float's range
        return False
