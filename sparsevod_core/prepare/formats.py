"""The label formats: how each is recognized in a folder, and the function that finds its labels.

A new format is a function `find_FORMAT(root, hints, reporter) -> LabelSet` in its own folder, and
one entry in `FORMATS`. ImageNet VID is converted by `imagenet_vid.convert`, which compares the tree
with the official lists.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from sparsevod_core.errors import DataError
from sparsevod_core.prepare.coco.files import find_files, is_prepared
from sparsevod_core.prepare.coco.labels import find_coco
from sparsevod_core.prepare.cvat.labels import find_cvat
from sparsevod_core.prepare.foreign import foreign_labels
from sparsevod_core.prepare.imagenet_vid.layout import find_root
from sparsevod_core.prepare.mot.labels import KITTI_FOLDERS, find_mot
from sparsevod_core.prepare.mot.sequences import GROUND_TRUTH, label_files
from sparsevod_core.prepare.reading.file_bytes import read_up_to
from sparsevod_core.prepare.reading.file_tree import walk_files
from sparsevod_core.prepare.reading.label_set import Hints, LabelSet
from sparsevod_core.prepare.reading.split_names import find_by_split
from sparsevod_core.prepare.reading.strict_xml import root_element
from sparsevod_core.prepare.voc.labels import find_voc
from sparsevod_core.prepare.yolo.data_yaml import find_data_yaml
from sparsevod_core.prepare.yolo.labels import CLASS_LISTS, find_yolo
from sparsevod_core.reporting import Reporter

_MAX_OPENED = 50  # files of one suffix; the labels of a tree are alike


@dataclass(frozen=True, slots=True)
class LabelFormat:
    """A label format.

    Attributes:
        layout: Description of its files, for error messages.
        sign: Returns the file or subfolder that identifies the format; "" if there is none.
        find: Finds the classes and videos of the data set.
        hints: Names of the `Hints` that it uses.
    """

    layout: str
    sign: Callable[[Path], str]
    find: Callable[[Path, Hints, Reporter], LabelSet]
    hints: tuple[str, ...]


def recognize(root: Path) -> tuple[str, str]:
    """Return the name of the format (`imagenet` or a key of `FORMATS`), and its sign in the folder.

    Raises:
        DataError: `root` does not exist, or has labels of no format or of several.
    """
    if not root.exists():
        raise DataError(f"{root}: no such file or folder")
    found = [("imagenet", "Data/VID")] if find_root(root) else []
    found += [(name, sign) for name, form in FORMATS.items() if (sign := form.sign(root))]
    if len(found) > 1:  # a prepared file may be beside the labels that it was made from
        found = [(name, sign) for name, sign in found if name != "coco" or not _is_prepared(root)]
    if len(found) > 1 and not _first_label(root, ".txt", _has_five_numbers):
        found = [(name, sign) for name, sign in found if sign not in CLASS_LISTS]
    if len(found) == 1:
        return found[0]
    if not found:
        if foreign := foreign_labels(root):
            raise DataError(f"{root}: no labels of a known format: {foreign[0]}", foreign[1])
        layouts = "; ".join(f"{name}: {form.layout}" for name, form in FORMATS.items())
        raise DataError(
            f"{root}: no ImageNet VID here, nor labels of another known format. Expected "
            f"imagenet: Data/VID and Annotations/VID; {layouts}"
        )
    several = ", ".join(f"{name} ({sign})" for name, sign in found)
    raise DataError(
        f"{root}: labels of more than one format: {several}",
        hint=f"choose one: --format {found[0][0]}",
    )


def _coco_sign(root: Path) -> str:
    if root.is_file():
        is_coco = root.suffix.lower() == ".json" and not foreign_labels(root)
        return root.name if is_coco else ""
    try:
        files = find_files(root).splits
    except DataError:
        return "several .json files"
    if any(map(foreign_labels, files.values())):  # YouTube-VIS has `videos` and `annotations`, too
        return ""
    return ", ".join(path.relative_to(root).as_posix() for path in files.values())


def _is_prepared(root: Path) -> bool:
    try:
        return all(is_prepared(path) for path in find_files(root).splits.values())
    except DataError:
        return False


def _mot_sign(root: Path) -> str:
    for pattern in ("", "*/", "*/*/"):
        for path in root.glob(pattern + GROUND_TRUTH):
            return path.relative_to(root).as_posix()
    for paths in find_by_split(root, label_files).values() if root.is_dir() else ():
        return paths[0].relative_to(root).as_posix()
    return next((folder for folder in KITTI_FOLDERS if (root / folder).is_dir()), "")


def _yolo_sign(root: Path) -> str:
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
    return _first_label(root, ".txt", _has_five_numbers)


def _voc_sign(root: Path) -> str:
    if find_root(root):  # its annotations look the same
        return ""
    return _first_label(root, ".xml", lambda path: root_element(path) == "annotation")


def _cvat_sign(root: Path) -> str:
    if root.is_file():
        return root.name if root_element(root) == "annotations" else ""
    return _first_label(root, ".xml", lambda path: root_element(path) == "annotations")


def _first_label(root: Path, suffix: str, is_label: Callable[[Path], bool]) -> str:
    """Return the first label file in a tree; "" if none of the first 50 with the suffix is one."""
    files = islice(
        (file for file in walk_files(root) if file.lower().endswith(suffix)), _MAX_OPENED
    )
    return next((file for file in files if is_label(root / file)), "")


def _has_five_numbers(path: Path) -> bool:
    try:
        words = read_up_to(path, 200).split(b"\n")[0].split()
        values = [float(word) for word in words]
    except (OSError, ValueError):
        return False
    return len(values) >= 5 and values[0].is_integer() and all(abs(v) <= 2 for v in values[1:5])


FORMATS = {
    "coco": LabelFormat(
        "a .json with images, annotations and categories",
        _coco_sign,
        find_coco,
        ("images", "first_frame", "group_by_folder"),
    ),
    "mot": LabelFormat(f"SEQ/{GROUND_TRUTH}", _mot_sign, find_mot, ("classes", "first_frame")),
    "yolo": LabelFormat(
        "data.yaml or labels/**.txt",
        _yolo_sign,
        find_yolo,
        ("classes", "first_frame", "group_by_folder"),
    ),
    "voc": LabelFormat(
        "an .xml with <annotation> for each frame",
        _voc_sign,
        find_voc,
        ("classes", "first_frame", "group_by_folder"),
    ),
    "cvat": LabelFormat(
        "an .xml with <annotations>, CVAT for video", _cvat_sign, find_cvat, ("classes", "images")
    ),
}
