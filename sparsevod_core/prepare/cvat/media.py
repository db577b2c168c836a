"""Finds the video file, or the folder of frames, that a CVAT task was made from."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from sparsevod_core.data.annotation_join import VIDEO_FILE_NAME
from sparsevod_core.prepare.cvat.xml_reader import CvatTask
from sparsevod_core.prepare.reading.frame_names import split_number
from sparsevod_core.prepare.reading.image_size import IMAGE_SUFFIXES


def find_media(path: Path, task: CvatTask, root: Path, *, alone: bool) -> Path | None:
    """The task's video file, or the folder of its frames."""
    texts = [task.fields.get("source", ""), task.fields.get("name", ""), path.stem if alone else ""]
    names = [PurePosixPath(text.replace("\\", "/")).name for text in texts]
    folders = [path.parent, *(path.parent / name for name in ("videos", "images"))]
    folders += [root, *(root / name for name in ("videos", "images"))]
    folders = [folder for folder in folders if folder.is_dir() and folder.is_relative_to(root)]
    for name in filter(None, names):
        for folder in folders:
            exact = folder / name
            stems = {name, PurePosixPath(name).stem}
            found = [exact, *sorted(file for file in folder.iterdir() if file.stem in stems)]
            for candidate in found:
                is_video = VIDEO_FILE_NAME.search(candidate.name) and candidate.is_file()
                if is_video or (candidate.is_dir() and _has_images(candidate)):
                    return candidate
    images = path.parent / "images"
    return images if alone and images in folders and _has_images(images) else None


def _has_images(folder: Path) -> bool:
    return any(path.suffix.lower() in IMAGE_SUFFIXES for path in folder.iterdir())


def task_images(folder: Path, root: Path, numbers: range) -> tuple[tuple[int, str], ...]:
    """Each of the task's frames that has an image.

    CVAT exports `frame_000012.png` by number. Otherwise images stand in the order of their names:
    those of the task alone, or all that the task chose from.
    """
    paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES)
    numbered: Mapping[Any, Path] = {
        split_number(path.stem)[1]: path for path in paths if path.stem.startswith("frame_")
    }
    if numbers[0] not in numbered:
        alone = len(paths) == len(numbers)
        numbered = dict(zip(numbers if alone else range(len(paths)), paths, strict=True))
    return tuple(
        (number, numbered[number].relative_to(root).as_posix())
        for number in numbers
        if number in numbered
    )
