"""`data.yaml`: class names, key points, and the locations of the images of each split.

Source: docs.ultralytics.com/datasets/detect and /pose; exports of Roboflow and CVAT.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sparsevod_core.errors import DataError
from sparsevod_core.reporting import counted
from sparsevod_core.safe_yaml import read_yaml

_SPLIT_KEYS = {"train": ("train",), "val": ("val", "valid", "validation"), "test": ("test",)}
_CLASS_ID = re.compile("0|[1-9][0-9]{0,8}")


@dataclass(frozen=True, slots=True)
class DataFile:
    """Content of a `data.yaml`, or of Darknet's `obj.data`.

    Attributes:
        path: Path of the file.
        names: Class names by id; None if the file has none.
        places: Locations of the images of `train`, `val` and `test`, as written.
        folder: Folder that the locations are relative to, as written; "" if there is none.
        keypoint_numbers: Numbers per line for key points, after those of the box.
        notes: Messages about how the file was interpreted.
    """

    path: Path
    names: dict[int, str] | None
    places: dict[str, list[str]]
    folder: str = ""
    keypoint_numbers: int = 0
    notes: list[str] = field(default_factory=list)


def find_data_yaml(root: Path) -> Path | None:
    """Return the YAML file in `root` that has `names`: `data.yaml`, or the only other one.

    Raises:
        DataError: An invalid `data.yaml`, or several other files with names.
    """
    files = [*sorted(root.glob("*.yaml")), *sorted(root.glob("*.yml"))]
    found = []
    for file in sorted(files, key=lambda file: file.stem != "data"):
        try:
            if "names" in _top_level(file):
                if file.stem == "data":
                    return file
                found.append(file)
        except DataError:
            if file.stem == "data":
                raise
    if len(found) > 1:
        names = ", ".join(file.name for file in found[:4])
        raise DataError(
            f"{root}: {len(found)} files with class names: {names}",
            hint="give one of them instead of the folder",
        )
    return found[0] if found else None


def read_data_yaml(path: Path) -> DataFile:
    """Read a `data.yaml`. Names are as written: `off` is not a boolean here.

    Raises:
        DataError: Unreadable, not a mapping, or a setting of the wrong form.
    """
    settings = _top_level(path)
    notes = []
    names = _names(path, settings["names"]) if "names" in settings else None
    count = settings.get("nc")
    if names and count and count not in (str(len(names)), str(max(names) + 1)):
        given = counted(len(names), "name")
        notes.append(f"{path.name}: nc is {str(count)[:20]!r}, but the file has {given}")
    places = {}
    for split, keys in _SPLIT_KEYS.items():
        key = next((key for key in keys if settings.get(key)), keys[0])
        places[split] = _texts(path, key, settings.get(key))
    return DataFile(
        path,
        names,
        places,
        folder="".join(_texts(path, "path", settings.get("path"))[:1]),
        keypoint_numbers=_keypoint_numbers(path, settings.get("kpt_shape")),
        notes=notes,
    )


def _top_level(path: Path) -> dict[str, Any]:
    content = read_yaml(path, DataError)
    if not isinstance(content, dict):
        raise DataError(f"{path}: expected settings such as `names:` and `train:`")
    return content


def _names(path: Path, value: Any) -> dict[int, str]:
    if isinstance(value, list):
        value = {str(number): name for number, name in enumerate(value)}
    if not isinstance(value, dict):
        raise DataError(f"{path}: names: expected a list, or a mapping from class id to name")
    names: dict[int, str] = {}
    for number, name in value.items():
        if not _CLASS_ID.fullmatch(number):
            raise DataError(
                f"{path}: names: expected a mapping from class id to name, with ids such as 0 or "
                f"12, got {number[:40]!r}"
            )
        if not isinstance(name, str | None):
            raise DataError(f"{path}: names: {number}: expected a name, got a list or mapping")
        names[int(number)] = name or ""
    return dict(sorted(names.items()))


def _texts(path: Path, key: str, value: Any) -> list[str]:
    """Return the texts of a scalar or a list; none for an empty one or null."""
    values = value if isinstance(value, list) else [value]
    if not all(isinstance(item, str | None) for item in values):
        raise DataError(f"{path}: {key}: expected text, or a list of texts")
    return [item for item in values if item and item.lower() != "null"]


def _keypoint_numbers(path: Path, value: Any) -> int:
    shape = _texts(path, "kpt_shape", value)
    if not shape:
        return 0
    if len(shape) == 2 and re.fullmatch("[1-9][0-9]{0,2}", shape[0]) and shape[1] in ("2", "3"):
        return int(shape[0]) * int(shape[1])
    got = str(value)[:40]
    raise DataError(f"{path}: kpt_shape: expected [number of key points, 2 or 3], got {got}")
