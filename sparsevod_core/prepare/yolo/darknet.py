"""Darknet's `obj.data`: settings `key = value` with the lists of images of `train` and `valid`.

Source: github.com/AlexeyAB/darknet; CVAT's export "YOLO 1.1".
"""

from __future__ import annotations

from pathlib import Path

from sparsevod_core.prepare.reading.class_names import read_class_list
from sparsevod_core.prepare.reading.file_tree import files_in
from sparsevod_core.prepare.reading.text_file import read_text
from sparsevod_core.prepare.yolo.data_yaml import DataFile

_SPLIT_KEYS = {"train": "train", "val": "valid", "test": "test"}


def find_obj_data(root: Path) -> Path | None:
    """Return the `obj.data` in `root` or its folder `data`, or the only other `.data` file."""
    files = files_in(root, ".data") or files_in(root / "data", ".data")
    files.sort(key=lambda file: file.name != "obj.data")
    return files[0] if len(files) == 1 or (files and files[0].name == "obj.data") else None


def read_obj_data(path: Path) -> DataFile:
    """Read an `obj.data`.

    Raises:
        DataError: Unreadable, or invalid class names.
    """
    pairs = (line.split("=", 1) for line in read_text(path).splitlines() if "=" in line)
    settings = {key.strip(): value.strip() for key, value in pairs}
    places = {
        split: [settings[key]] if settings.get(key) else [] for split, key in _SPLIT_KEYS.items()
    }
    names, notes = None, []
    listed = path.with_name(settings.get("names", "").replace("\\", "/").rpartition("/")[2] or "-")
    if listed.is_file():
        names = read_class_list(listed, first_id=0)
        count = settings.get("classes", "")
        if count and count != str(len(names)):
            notes.append(
                f"{path.name}: classes is {count[:20]!r}, but {listed.name} has {len(names)}"
            )
    return DataFile(path, names, places, notes=notes)
