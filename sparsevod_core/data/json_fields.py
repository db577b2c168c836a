"""Parsers for the fields of a JSON entry, shared by all readers of annotations and results.

They raise `FieldError`. Strict readers turn it into a `DataError` that names the entry; lenient
readers record it and skip the entry.
"""

from __future__ import annotations

import re
import sys
from typing import Any

Id = int | str
"""Type of ids: whole numbers as COCO defines them, or text as in some files."""

MISSING = -(2**63)
"""Value of a column of whole numbers where the entry does not have the field."""

LEAST_WHOLE = -(2**62)
"""Smallest whole number accepted; columns use smaller values for `MISSING` and for text ids."""

_WORDS = {"0": False, "0.0": False, "false": False, "no": False} | {
    "1": True, "1.0": True, "true": True, "yes": True
}  # fmt: skip
_DIGITS = re.compile("-?[0-9]+")
_SURROGATE = re.compile("[\ud800-\udfff]")  # JSON can write them, a file name cannot hold them


class FieldError(Exception):
    """A field that is missing or invalid, or an entry that is not an object."""

    @classmethod
    def of(cls, entry: Any, key: str, expected: str) -> FieldError:
        """Return the error for `entry[key]`."""
        if not isinstance(entry, dict):
            return cls(f"expected an object, got {kind(entry)}")
        if key not in entry:
            return cls(f"`{key}` is missing")
        return cls(f"{key}: expected {expected}, got {repr(entry[key])[:80]}")


def require(entry: Any, key: str) -> Any:
    """Return `entry[key]`."""
    if not isinstance(entry, dict) or key not in entry:
        raise FieldError.of(entry, key, "a value")
    return entry[key]


def whole(entry: Any, key: str, default: int | None = None, *, from_text: bool = False) -> int:
    """Return the whole number at `key`.

    Args:
        default: Value for a field that is missing or null; None: such a field is an error.
        from_text: If True, also accept digits in quotes.
    """
    try:
        value = entry.get(key)
    except AttributeError:
        raise FieldError.of(entry, key, "a whole number") from None
    if type(value) is int and LEAST_WHOLE <= value < 2**63:  # a bool is an int, too
        return value
    if value is None and default is not None:
        return default
    is_whole = type(value) is float and value.is_integer()  # as pandas and spreadsheets write ids
    if is_whole or (from_text and type(value) is str and is_whole_text(value)):
        number = int(value[:30] if type(value) is str else value)
        if LEAST_WHOLE <= number < 2**63:
            return number
    raise FieldError.of(entry, key, "a whole number")


def is_whole_text(value: str) -> bool:
    """Return True if a text is a whole number in decimal digits."""
    return _DIGITS.fullmatch(value) is not None


def size(entry: dict[str, Any], key: str) -> int:
    """Return the size in pixels at `key`; 0 if it is missing."""
    value = entry.get(key)
    if value is None:
        return 0
    pixels = value if type(value) is int else whole(entry, key)  # saves a call for most entries
    if 1 <= pixels <= 2**31:
        return pixels
    raise FieldError.of(entry, key, "a size in pixels")


def flag(entry: dict[str, Any], key: str, default: bool = False) -> bool:
    """Return the flag at `key`: a boolean, 0 or 1, or a word for them such as "false".

    Args:
        default: Value for a field that is missing or null.
    """
    value = entry.get(key)
    if value is None:
        return default
    if value == 0 or value == 1:  # also booleans and floats
        return bool(value)
    if isinstance(value, str) and (known := _WORDS.get(value.strip().lower())) is not None:
        return known
    raise FieldError.of(entry, key, "0, 1, true or false")


def text(entry: dict[str, Any], key: str) -> str:
    """Return the text at `key`: not empty, and encodable as UTF-8."""
    value = entry.get(key)
    if (
        isinstance(value, str)
        and (value and "\0" not in value)
        and (value.isascii() or not _SURROGATE.search(value))
    ):
        return value
    raise FieldError.of(entry, key, "text")


def finite(entry: Any, key: str, default: float | None = None) -> float:
    """Return the finite number at `key`; `default`, if it is given, for a missing one."""
    if default is not None and entry.get(key) is None:
        return default
    if is_finite(number := require(entry, key)):
        return float(number)
    raise FieldError.of(entry, key, "a finite number")


def box_xywh(entry: Any, *, from_text: bool = False) -> list[float]:
    """Return the four finite numbers at `bbox`.

    Args:
        from_text: If True, also accept numbers in quotes.
    """
    box = require(entry, "bbox")
    try:
        is_text = from_text and isinstance(box, list)
        numbers = list(map(float, box)) if is_text else box
    except (TypeError, ValueError, OverflowError):
        numbers = None
    if isinstance(numbers, list) and len(numbers) == 4 and all(map(is_finite, numbers)):
        return [float(number) for number in numbers]
    raise FieldError.of(entry, "bbox", "four finite numbers [x, y, width, height]")


def is_finite(number: Any) -> bool:
    """Return True if a JSON value is a finite number that a float can hold; a bool is not."""
    return type(number) in (float, int) and -sys.float_info.max <= number <= sys.float_info.max


def kind(value: Any) -> str:
    """Return what a JSON value is, in JSON's terms."""
    if isinstance(value, dict):
        return "an object with " + (", ".join(map(str, list(value)[:6])) or "no members")
    return {list: "a list", type(None): "null"}.get(type(value), repr(value)[:80])
