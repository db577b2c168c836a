"""`data.yaml`, which names a YOLO set's classes and says where the images of each split lie.

Paths in it are only taken below its own folder: `path:` is often that of another machine, and
exports write `../train/images` for what lies beside the file.

Source: docs.ultralytics.com/datasets/detect; exports of Roboflow and CVAT.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from sparsevod_core.errors import DataError

_SPLIT_KEYS = {"train": ("train",), "val": ("val", "valid", "validation")}


def find_data_yaml(root: Path) -> Path | None:
    """The YAML file in `root` that has `names`, `data.yaml` first."""
    files = [file for suffix in ("*.yaml", "*.yml") for file in sorted(root.glob(suffix))]
    for file in sorted(files, key=lambda file: file.stem != "data"):
        try:
            if "names" in read_data_yaml(file):
                return file
        except DataError:
            if file.stem == "data":
                raise
    return None


def read_data_yaml(path: Path) -> dict[str, Any]:
    """Its settings.

    Raises:
        DataError: unreadable, or no mapping.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark else ""
        raise DataError(f"{path}{line}: not YAML that can be read") from error
    if not isinstance(content, dict):
        raise DataError(f"{path}: expected settings such as `names:` and `train:`")
    return content


def split_by_yaml(
    root: Path, config: Path, settings: Mapping[str, Any]
) -> Callable[[str], str | None] | None:
    """Tells the split of a file as `data.yaml` does; None where it names less than two."""
    places = {
        split: _locations(root, config, settings, keys) for split, keys in _SPLIT_KEYS.items()
    }
    if not all(places.values()):
        return None

    def split_of(file: str) -> str | None:
        above = {file, *map(str, PurePosixPath(file).parents)}
        return next((split for split, found in places.items() if found & above), None)

    return split_of


def _locations(
    root: Path, config: Path, settings: Mapping[str, Any], keys: tuple[str, ...]
) -> set[str]:
    """Folders, or the images of a list, that a setting names, relative to the root."""
    value: Any = next((settings[key] for key in keys if settings.get(key)), [])
    found: set[str] = set()
    for text in value if isinstance(value, list) else [value]:
        place = _place(root, settings, str(text))
        if place is None:
            raise DataError(
                f"{config}: {keys[0]}: {str(text)[:80]!r} is not there below {root}",
                hint="paths are taken relative to the folder of the YAML file",
            )
        if place.suffix == ".txt":
            found.update(_listed_images(root, place))
        else:
            found.add(place.relative_to(root).as_posix())
    return found


def _place(root: Path, settings: Mapping[str, Any], text: str) -> Path | None:
    """The file or folder below the root that a path in a `data.yaml` means."""
    parts = [part for part in PurePosixPath(text).parts if part not in ("..", ".", "/")]
    above = [part for part in PurePosixPath(str(settings.get("path") or "")).parts if part != "/"]
    for candidate in (root.joinpath(*above, *parts), root.joinpath(*parts)):
        if ".." not in candidate.parts[len(root.parts) :] and candidate.exists():
            return candidate
    return None


def _listed_images(root: Path, path: Path) -> set[str]:
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot read the list of images: {error}") from error
    found = set()
    for number, line in enumerate(lines, start=1):
        if line.strip():
            place = _place(root, {}, line.strip())
            if place is None:
                raise DataError(f"{path}:{number}: {line.strip()[:80]!r} is not there below {root}")
            found.add(place.relative_to(root).as_posix())
    return found
