"""Fields of COCO entries under the names and in the forms that tools write.

Like `data.json_fields`, the parsers raise `FieldError`.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Any

from sparsevod_core.data.json_fields import FieldError, text, whole

TRACK_KEYS = ("instance_id", "track_id", "tracking_id", "object_id")
VIDEO_KEYS = ("video_id", "video")
FRAME_KEYS = ("frame_id", "frame_index", "frame_number")

STAYS = "a name that stays in the data set's folder"
_MOST_PIXELS = (1 << 16) - 1

number = partial(whole, from_text=True)
"""Like `whole`, but also reads digits in quotes."""


def pixels(entry: dict[str, Any], key: str) -> int:
    """Return a size in pixels; 0 if it is missing."""
    value = number(entry, key, 0)
    if 0 <= value <= _MOST_PIXELS:
        return value
    raise FieldError.of(entry, key, "a size in pixels")


def printable(entry: dict[str, Any], key: str) -> str:
    """Return a text without control characters."""
    value = text(entry, key)
    if value.isprintable():
        return value
    raise FieldError.of(entry, key, "printable text")


def first_key(entry: Any, keys: tuple[str, ...]) -> str:
    """Return the first of the keys that has a value, or the first key."""
    if isinstance(entry, dict):
        for key in keys:
            if entry.get(key) is not None:
                return key
    return keys[0]


def box_area(entry: dict[str, Any]) -> float:
    """Return `area`, which only helps to recognize the form of boxes; NaN if it is unusable."""
    try:
        return float(entry.get("area", math.nan))
    except (TypeError, ValueError, OverflowError):
        return math.nan


def outline_ltwh(entry: dict[str, Any]) -> list[float]:
    """Return the box around the polygons of `segmentation`."""
    polygons = entry["segmentation"]
    try:
        if not isinstance(polygons, list):
            raise TypeError
        if not isinstance(polygons[0], list):  # VGG Image Annotator does not nest a polygon
            polygons = [polygons]
        numbers = [list(map(float, polygon)) for polygon in polygons]
        x = [value for polygon in numbers for value in polygon[::2]]
        y = [value for polygon in numbers for value in polygon[1::2]]
        if len(x) == len(y) and all(map(math.isfinite, x + y)):
            return [min(x), min(y), max(x) - min(x), max(y) - min(y)]
    except (KeyError, TypeError, ValueError, OverflowError):
        pass
    raise FieldError("`bbox` is missing, and `segmentation` is not a list of polygons")


def slashed_name(entry: dict[str, Any], key: str) -> str:
    """Return a file name with forward slashes."""
    # Label Studio writes images of a local folder as /data/local-files/?d=FOLDER/NAME.
    name = printable(entry, key).replace("\\", "/").rpartition("?d=")[2]
    if name.endswith(".."):
        raise FieldError.of(entry, key, STAYS)
    return name.removeprefix("./")


def name_below_root(entry: dict[str, Any], key: str) -> str:
    """Return a file name that stays below the root."""
    name = slashed_name(entry, key)
    if leads_out(name):
        raise FieldError.of(entry, key, STAYS)
    return name


def leads_out(name: str) -> bool:
    """Return True if a file name is absolute, an address, or leads up."""
    return name[:1] == "/" or ":/" in name or ".." in name.split("/")
