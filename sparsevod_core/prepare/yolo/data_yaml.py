"""`data.yaml`: class names, key points, and the locations of the images of each split.

Scalars are taken as they are written: YAML itself would make a boolean of the class `off`, and
numbers or dates of others.

Source: docs.ultralytics.com/datasets/detect and /pose; exports of Roboflow and CVAT.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from sparsevod_core.errors import DataError
from sparsevod_core.prepare.reading.file_bytes import read_up_to

_MAX_BYTES = 1 << 20
_SPLIT_KEYS = {"train": ("train",), "val": ("val", "valid", "validation"), "test": ("test",)}
_CLASS_ID = re.compile("0|[1-9][0-9]{0,8}")
# All that plain text can be to YAML; `=` is a "value", and `<<` a "merge".
_TAGS = ("str", "int", "float", "bool", "null", "timestamp", "value", "merge", "seq", "map")


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
    """Read a `data.yaml`.

    Raises:
        DataError: Unreadable, not a mapping, or a setting of the wrong form.
    """
    settings = _top_level(path)
    notes = []
    names = None if "names" not in settings else _names(path, settings["names"])
    count = _text(path, settings.get("nc"))
    if names and count and count not in (str(len(names)), str(max(names) + 1)):
        notes.append(f"{path.name}: nc is {count[:20]!r}, but there are {len(names)} names")
    places = {}
    for split, keys in _SPLIT_KEYS.items():
        nodes = [settings[key] for key in keys if key in settings]
        places[split] = [text for node in nodes[:1] for text in _texts(path, split, node)]
    return DataFile(
        path,
        names,
        places,
        folder="".join(_texts(path, "path", settings["path"])[:1]) if "path" in settings else "",
        keypoint_numbers=_keypoint_numbers(path, settings.get("kpt_shape")),
        notes=notes,
    )


def _top_level(path: Path) -> dict[str, yaml.Node]:
    """Return the settings as nodes, of which nothing is converted.

    Raises:
        DataError: Unreadable, not YAML, not a mapping, or a setting is repeated.
    """
    try:
        content = read_up_to(path, _MAX_BYTES + 1)
        if len(content) > _MAX_BYTES:
            raise DataError(f"{path}: larger than {_MAX_BYTES >> 20} MiB")
        root = yaml.compose(content.decode("utf-8-sig"), yaml.SafeLoader)
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error
    # PyYAML itself raises ValueError and OverflowError for escapes such as "\UFFFFFFFF".
    except (yaml.YAMLError, ValueError, OverflowError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark else ""
        raise DataError(f"{path}{line}: not valid YAML in UTF-8") from error
    if not isinstance(root, yaml.MappingNode):
        raise DataError(f"{path}: expected settings such as `names:` and `train:`")
    settings: dict[str, yaml.Node] = {}
    for key, value in root.value:
        name = _text(path, key)
        if name in settings:
            raise DataError(f"{_place(path, key)}: {name[:40]}: is repeated")
        settings[name] = value
    return settings


def _names(path: Path, node: yaml.Node) -> dict[int, str]:
    _check_tag(path, node)
    if isinstance(node, yaml.SequenceNode):
        return {number: _text(path, item) for number, item in enumerate(node.value)}
    if not isinstance(node, yaml.MappingNode):
        raise DataError(
            f"{_place(path, node)}: names: expected a list, or a mapping from class id to name"
        )
    names: dict[int, str] = {}
    for key, value in node.value:
        number = _text(path, key)
        if not _CLASS_ID.fullmatch(number):
            raise DataError(
                f"{_place(path, key)}: names: expected a class id such as 0 or 12, got "
                f"{number[:40]!r}"
            )
        if int(number) in names:
            raise DataError(f"{_place(path, key)}: names: class {number} is repeated")
        names[int(number)] = _text(path, value)
    return {number: names[number] for number in sorted(names)}


def _texts(path: Path, key: str, node: yaml.Node) -> list[str]:
    """Return the texts of a scalar or a list; none for an empty one or null."""
    _check_tag(path, node)
    if isinstance(node, yaml.SequenceNode):
        return [_text(path, item) for item in node.value]
    if not isinstance(node, yaml.ScalarNode):
        raise DataError(f"{_place(path, node)}: {key}: expected a path, or a list of paths")
    text = _text(path, node)
    return [text] if text and not node.tag.endswith(":null") else []


def _keypoint_numbers(path: Path, node: yaml.Node | None) -> int:
    if node is None:
        return 0
    shape = _texts(path, "kpt_shape", node)
    if not shape:
        return 0
    if len(shape) != 2 or not re.fullmatch("[1-9][0-9]{0,3}", shape[0]) or shape[1] not in "23":
        raise DataError(f"{_place(path, node)}: kpt_shape: expected [number of key points, 2 or 3]")
    return int(shape[0]) * int(shape[1])


def _text(path: Path, node: yaml.Node | None) -> str:
    """Return a scalar as it is written, "" for a missing one.

    Raises:
        DataError: Not a scalar.
    """
    if node is None:
        return ""
    if not isinstance(node, yaml.ScalarNode):
        raise DataError(f"{_place(path, node)}: expected a name or a number, got a list or mapping")
    _check_tag(path, node)
    return str(node.value)


def _check_tag(path: Path, node: yaml.Node) -> None:
    kind = node.tag.removeprefix("tag:yaml.org,2002:")
    if kind not in _TAGS:
        raise DataError(f"{_place(path, node)}: not valid YAML: unknown tag {node.tag[:60]!r}")


def _place(path: Path, node: yaml.Node) -> str:
    return f"{path}:{node.start_mark.line + 1}"
