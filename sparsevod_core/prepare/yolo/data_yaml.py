"""`data.yaml`: the class names of a YOLO dataset, and the locations of the images of each split.

Paths are resolved only below the file's own folder: `path:` is often that of another machine, and
exports write `../train/images` for a folder beside the file.

Source: docs.ultralytics.com/datasets/detect; exports of Roboflow and CVAT.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from sparsevod_core.errors import DataError
from sparsevod_core.safe_yaml import read_yaml

_SPLIT_KEYS = {"train": ("train",), "val": ("val", "valid", "validation")}


def find_data_yaml(root: Path) -> Path | None:
    """Return the YAML file in `root` that has `names`, preferably `data.yaml`."""
    files = [*sorted(root.glob("*.yaml")), *sorted(root.glob("*.yml"))]
    for file in sorted(files, key=lambda file: file.stem != "data"):
        try:
            if "names" in read_data_yaml(file):
                return file
        except DataError:
            if file.stem == "data":
                raise
    return None


def read_data_yaml(path: Path) -> dict[str, Any]:
    """Return the settings in a YAML file, with all scalars as text.

    Raises:
        DataError: Unreadable, or not a mapping.
    """
    content = read_yaml(path, DataError)
    if not isinstance(content, dict):
        raise DataError(f"{path}: expected settings such as `names:` and `train:`")
    return content


def split_by_yaml(
    root: Path, config: Path, settings: Mapping[str, Any]
) -> Callable[[str], str | None] | None:
    """Return a function from file to split, or None unless `data.yaml` has `train` and `val`.

    Raises:
        DataError: A location that does not exist below `root`, or an unreadable list of images.
    """
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
    """Return the folders of a split, or the images in its list, relative to the root."""
    value: Any = next((settings[key] for key in keys if settings.get(key)), [])
    found: set[str] = set()
    for text in value if isinstance(value, list) else [value]:
        place = _resolve(root, settings, str(text))
        if place is None:
            raise DataError(
                f"{config}: {keys[0]}: {str(text)[:80]!r} does not exist below {root}",
                hint="give paths relative to the folder of the YAML file",
            )
        if place.suffix == ".txt":
            found.update(_listed_images(root, place))
        else:
            found.add(place.relative_to(root).as_posix())
    return found


def _resolve(root: Path, settings: Mapping[str, Any], text: str) -> Path | None:
    """Return the file or folder below the root that a path in `data.yaml` refers to."""
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
            place = _resolve(root, {}, line.strip())
            if place is None:
                raise DataError(f"{path}:{number}: {line.strip()[:80]!r} does not exist in {root}")
            found.add(place.relative_to(root).as_posix())
    return found
