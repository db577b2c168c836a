"""Tells from the files in a folder which format its labels have."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from sparsevod_core.errors import DataError
from sparsevod_core.prepare.coco.labels import coco_files, is_prepared
from sparsevod_core.prepare.label_set import walk_files
from sparsevod_core.prepare.mot.labels import GROUND_TRUTH
from sparsevod_core.prepare.strict_xml import root_element
from sparsevod_core.prepare.yolo.data_yaml import find_data_yaml
from sparsevod_core.prepare.yolo.labels import CLASS_LISTS

LAYOUTS = {
    "imagenet": "Data/VID and Annotations/VID",
    "coco": "a .json with images, annotations and categories",
    "mot": f"SEQ/{GROUND_TRUTH}",
    "yolo": "data.yaml or labels/**.txt",
    "voc": "an .xml with <annotation> for each frame",
    "cvat": "an .xml with <annotations>, CVAT for video",
}
"""By name, what each looks like."""

_OPENED = 50  # files of a suffix; the labels of a tree are alike


def recognise(root: Path) -> tuple[str, str]:
    """The name of the format and, for people, what it was recognised by.

    Raises:
        DataError: nothing there, or labels of no format or of several.
    """
    if not root.exists():
        raise DataError(f"{root}: no such file or folder")
    found = [(name, by) for name, look in _LOOKS.items() if (by := look(root))]
    if len(found) > 1:  # what was prepared may lie beside what it was prepared from
        found = [(name, by) for name, by in found if name != "coco" or not _is_prepared(root)]
    if len(found) == 1:
        return found[0]
    known = "; ".join(f"{name}: {shape}" for name, shape in LAYOUTS.items())
    if not found:
        raise DataError(
            f"{root}: no ImageNet VID here, nor labels of another known format. Expected {known}"
        )
    several = ", ".join(f"{name} ({by})" for name, by in found)
    raise DataError(
        f"{root}: labels of more than one format: {several}",
        hint=f"choose one: --format {found[0][0]}",
    )


def _imagenet(root: Path) -> str:
    for folder in (root, *sorted(root.glob("ILSVRC*"))):
        if (folder / "Data" / "VID").is_dir():
            return "Data/VID"
    return ""


def _coco(root: Path) -> str:
    if root.is_file():
        return root.name if root.suffix.lower() == ".json" else ""
    try:
        files = coco_files(root)
    except DataError:
        return "several .json files"
    return ", ".join(path.relative_to(root).as_posix() for path in files.values())


def _is_prepared(root: Path) -> bool:
    try:
        return all(is_prepared(path) for path in coco_files(root).values())
    except DataError:
        return False


def _mot(root: Path) -> str:
    for pattern in ("", "*/", "*/*/"):
        for path in root.glob(pattern + GROUND_TRUTH):
            return path.relative_to(root).as_posix()
    return ""


def _yolo(root: Path) -> str:
    if root.is_file():
        return root.name if root.suffix.lower() in (".yaml", ".yml") else ""
    try:
        config = find_data_yaml(root)
    except DataError:
        return "data.yaml"
    if config is not None:
        return f"{config.name} with names"
    for name in CLASS_LISTS:
        if (root / name).is_file():
            return name
    return _first_label(root, ".txt", lambda path: _has_five_numbers(path))


def _voc(root: Path) -> str:
    if _imagenet(root):  # whose annotations have the same form
        return ""
    return _first_label(root, ".xml", lambda path: root_element(path) == "annotation")


def _cvat(root: Path) -> str:
    if root.is_file():
        return root.name if root_element(root) == "annotations" else ""
    return _first_label(root, ".xml", lambda path: root_element(path) == "annotations")


_LOOKS: dict[str, Callable[[Path], str]] = {
    "imagenet": _imagenet,
    "coco": _coco,
    "mot": _mot,
    "yolo": _yolo,
    "voc": _voc,
    "cvat": _cvat,
}


def _first_label(root: Path, suffix: str, is_label: Callable[[Path], bool]) -> str:
    """The first file of a suffix and kind, if it is among the first of its suffix in a tree."""
    opened = 0
    for folder, files in walk_files(root):
        for file in files:
            if file.endswith(suffix):
                if is_label(root / folder / file):
                    return f"{folder}/{file}" if folder else file
                opened += 1
                if opened == _OPENED:
                    return ""
    return ""


def _has_five_numbers(path: Path) -> bool:
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            words = file.readline(200).split()
        values = [float(word) for word in words]
    except (OSError, ValueError):
        return False
    return len(values) >= 5 and values[0].is_integer() and all(abs(v) <= 2 for v in values[1:5])
