"""Formats that are not read, by name, so that the error can say which one it is."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

from sparsevod_core.prepare.reading.file_tree import walk_files
from sparsevod_core.prepare.reading.strict_xml import root_element

_HEAD_BYTES = 1 << 16
_MAX_LOOKED_AT = 2_000  # files

_ARCHIVES = (".zip", ".tar", ".tgz", ".gz", ".7z", ".rar")
_KEYS = {  # all of which are in a file's head
    "LabelMe": ("shapes", "imagePath"),
    "VoTT": ("assets",),
    "VGG Image Annotator": ("shape_attributes", "region_attributes"),
    "BDD100K or Scalabel": ("box2d", "category"),
    "YouTube-VIS": ("videos", "file_names"),
    "Label Studio": ("from_name", "to_name"),
    "Supervisely": ("classTitle",),
    "Datumaro": ("items", "categories", "label"),
    "Anti-UAV": ("gt_rect",),
    "AU-AIR": ("image_name", "bbox"),
}
_KEYS_OF_COCO = ("image_id", "file_name")
_TABLES = (".csv", ".tsv", ".xlsx", ".parquet", ".tfrecord", ".record")


def foreign_labels(root: Path) -> tuple[str, str] | None:
    """Return what a file, or the first such file of a folder, holds, and what to do about it."""
    names = [root.name] if root.is_file() else islice(walk_files(root), _MAX_LOOKED_AT)
    folder = root.parent if root.is_file() else root
    for name in names:
        path = folder / name
        if not path.is_file():  # a pipe, which would wait
            continue
        if path.suffix.lower() in _ARCHIVES:
            return f"{name} is an archive", "unpack it, and give the folder"
        if kind := _kind(path):
            return f"{name} is {kind}, which is not read", (
                "convert the labels to COCO, YOLO, Pascal VOC or MOT first"
            )
    return None


def _kind(path: Path) -> str:
    suffix = path.suffix.lower()
    if suffix in _TABLES:
        return "a table"
    if suffix == ".xml":
        return "UA-DETRAC's XML" if root_element(path) == "sequence" else ""
    if suffix == ".txt":
        return "KITTI's format" if path.parent.name in ("label_2", "label_02") else ""
    if suffix != ".json":
        return ""
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD_BYTES)
    except OSError:
        return ""
    if any(f'"{key}"'.encode() in head for key in _KEYS_OF_COCO):
        return ""
    return next(
        (
            f"{name}'s JSON"
            for name, keys in _KEYS.items()
            if all(f'"{key}"'.encode() in head for key in keys)
        ),
        "",
    )
