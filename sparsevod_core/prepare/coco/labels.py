"""Users' own COCO-VID JSON, or plain COCO JSON whose images are frames of videos.

The `file_name` of an entry of `videos` is a video file or a folder. Without `videos`, images with
the same `video_id` form a video; without that, those of a folder do (`frame_names.py`). Ids of
images and classes are kept, so they must be whole numbers; gaps and a start at 0 or 1 are fine.
Tracks are `instance_id` or `track_id`. Optional are tracks, sizes (read from the file), `frame_id`
(read from the name), `area`, `iscrowd` and ids of annotations. Boxes are `[x, y, width, height]` in
pixels from 0, and are kept.

Source: cocodataset.org/#format-data; MMTracking's CocoVID.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from sparsevod_core.data.annotation_file import is_video_file
from sparsevod_core.errors import DataError
from sparsevod_core.prepare.annotated import AnnotatedFrame, AnnotatedVideo
from sparsevod_core.prepare.class_names import categories_of
from sparsevod_core.prepare.coco.entries import CocoEntries, read_coco_entries
from sparsevod_core.prepare.coco.groups import group_images
from sparsevod_core.prepare.coco.videos import CocoVideo, CocoVideos
from sparsevod_core.prepare.image_size import read_image_size
from sparsevod_core.prepare.label_set import (
    SPLIT_NAMES,
    Hints,
    LabelSet,
    Split,
    first_frame_number,
)
from sparsevod_core.prepare.media import add_box, finish, frames_in_file
from sparsevod_core.reporting import Reporter

_PROBES = 20
"""Number of names to look for when choosing the folder that names start from."""
_HEAD_BYTES = 1 << 16
_OURS = b'"tool": "sparsevod'


def find_coco(root: Path, hints: Hints, reporter: Reporter) -> LabelSet:
    """Find the set in a JSON file, or in the files for `train` and `val` of a folder.

    Raises:
        DataError: no such file, an unreadable one, none of its images or videos found, or two files
            with different names for one class.
    """
    files = coco_files(root)
    if not files:
        raise DataError(f"{root}: no COCO file: expected a .json with images and annotations")
    contents: dict[str, CocoEntries] = {}
    with reporter.progress("reading annotations", len(files), "files") as progress:
        for split, path in files.items():
            contents[split] = read_coco_entries(path)
            progress.advance(note=path.name)
    names = _common_names(list(contents.values()))
    places = {split: _find_place(root, split, contents[split], hints) for split in contents}
    common = Path(os.path.commonpath(list(places.values())))
    groups = {split: group_images(entries, hints) for split, entries in contents.items()}
    in_files = [group.numbers for split in groups.values() for group in split if group.file]
    first_frame = first_frame_number(in_files, hints.first_frame)
    splits = {}
    for split, entries in contents.items():
        base = "/".join(places[split].relative_to(common).parts)
        splits[split] = Split(CocoVideos(entries, groups[split], base), entries.problems)
    reader = CocoReader(common, first_frame)
    notes = [f"annotations count the frames of a video file from {first_frame}"] * first_frame
    return LabelSet(common, categories_of(names, next(iter(files.values()))), splits, reader, notes)


@dataclass(frozen=True, slots=True)
class CocoReader:
    """Reads a video, and checks that its frames exist and have the size given in the JSON."""

    root: Path
    first_frame: int

    def __call__(self, source: CocoVideo) -> AnnotatedVideo:
        video = AnnotatedVideo(source.name, source.is_video, source.file)
        frames = self._frames_in_file if source.file else self._frames_in_images
        for position, frame in frames(source, video):
            for place, box in source.boxes_of(position):
                add_box(video, frame, box, f"{source.path}: annotations[{place}]")
            video.frames.append(frame)
        return finish(video)

    def _frames_in_file(
        self, source: CocoVideo, video: AnnotatedVideo
    ) -> Iterator[tuple[int, AnnotatedFrame]]:
        numbers = [number - self.first_frame for number in source.numbers]
        path = self.root / str(source.file)
        height, width, existing = frames_in_file(path, numbers, video.problems)
        for position, number in enumerate(numbers[: len(existing)]):
            if number < 0:
                video.problems.append(
                    f"{source.path}: image {source.image_ids[position]}: frame {number} of "
                    f"{source.file}, skipped: numbers start at {self.first_frame}"
                )
            elif not _has_size(source, position, path, height, width, video.problems):
                return
            else:
                yield position, source.frame(position, number, height, width)

    def _frames_in_images(
        self, source: CocoVideo, video: AnnotatedVideo
    ) -> Iterator[tuple[int, AnnotatedFrame]]:
        for position, number in enumerate(source.numbers):
            name = source.file_name(position)
            if source.folder and not (self.root / name).is_file():
                name = f"{source.folder}/{source.file_names[position]}"
            path = self.root / name
            try:
                height, width = read_image_size(path)
            except DataError as error:
                video.problems.append(f"{error.message}, skipped")
                continue
            if _has_size(source, position, path, height, width, video.problems):
                frame = source.frame(position, number, height, width)
                frame.file_name = name
                yield position, frame


def _has_size(
    source: CocoVideo, position: int, path: Path, height: int, width: int, problems: list[str]
) -> bool:
    """Return True if an image's annotated size, if any, is that of its pixels."""
    annotated = source.size_of(position)
    if annotated in ((0, 0), (height, width)):
        return True
    problems.append(
        f"{path}: {width}x{height} pixels, but {source.path} has {annotated[1]}x{annotated[0]} for "
        f"image {source.image_ids[position]}, skipped"
    )
    return False


def coco_files(root: Path) -> dict[str, Path]:
    """Return the JSON files by split, or one as `all`; files that we wrote only without others.

    They are in `root` or in its folder `annotations`. Those of a split are called `train.json`,
    `instances_val2017.json` or the like.
    """
    if root.is_file():
        return {"all": root}
    paths = [*sorted(root.glob("*.json")), *sorted(root.glob("annotations/*.json"))]
    heads = {path: _head(path) for path in paths}
    paths = [path for path in paths if b'"images"' in heads[path] or b'"videos"' in heads[path]]
    paths = [path for path in paths if _OURS not in heads[path]] or paths
    splits: dict[str, Path] = {}
    for path in paths:
        words = set(re.split("[^a-z]+", path.stem.lower()))
        for split, names in SPLIT_NAMES.items():
            if words & set(names):
                splits.setdefault(split, path)
    if {"train", "val"} <= splits.keys():
        return {split: splits[split] for split in SPLIT_NAMES}
    if len(paths) > 1:
        found = ", ".join(path.name for path in paths[:4])
        raise DataError(
            f"{root}: {len(paths)} JSON files, but not one for train and one for val: {found}",
            hint="give the file to convert instead of the folder",
        )
    return {"all": paths[0]} if paths else {}


def is_prepared(path: Path) -> bool:
    """Return True if `prepare-vid` wrote the file."""
    return _OURS in _head(path)


def _head(path: Path) -> bytes:
    """Return the start and the end of a file: sections can have any order."""
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD_BYTES)
            file.seek(-min(path.stat().st_size, _HEAD_BYTES), os.SEEK_END)
            return head + file.read()
    except OSError:
        return b""


def _common_names(contents: list[CocoEntries]) -> dict[int, str]:
    names: dict[int, str] = {}
    for entries in contents:
        for class_id, name in entries.names.items():
            if names.setdefault(class_id, name) != name:
                raise DataError(
                    f"{entries.path}: class {class_id} is {name!r}, but {names[class_id]!r} in "
                    f"{contents[0].path}"
                )
    return names


def _find_place(root: Path, split: str, entries: CocoEntries, hints: Hints) -> Path:
    """Return the folder that names start from: the first of those that have most of the files."""
    beside = entries.path.parent
    if hints.images is not None:
        candidates = [hints.images]
    else:
        folders = [root] if root.is_dir() else []
        folders += [beside, *([beside.parent] if beside.name == "annotations" else [])]
        stem = entries.path.stem.rpartition("_")[2]
        below = ["", "images", stem, f"images/{stem}", split, f"images/{split}", "videos"]
        candidates = [beside / entries.root] if entries.root else []
        candidates += [folder / name for folder in folders for name in below]
    candidates = [
        Path(os.path.normpath(place.absolute())) for place in candidates if place.is_dir()
    ]
    probes = _probes(entries)
    if not probes:
        reason = (entries.problems or ["'images' is empty"])[0]
        raise DataError(f"{entries.path}: no usable image: {reason}")
    hits = [sum(_is_there(place, probe) for probe in probes) for place in candidates]
    if not any(hits):
        searched = ", ".join(map(str, dict.fromkeys(candidates))) or str(hints.images)
        raise DataError(
            f"{entries.path}: {probes[0][-1]} and the others that it names are in none of: "
            f"{searched}",
            hint="use --images FOLDER to give the folder of the images or videos",
        )
    return candidates[hits.index(max(hits))]


def _probes(entries: CocoEntries) -> list[list[str]]:
    """Return, for some images, the names of which the right folder has one."""
    total = len(entries.file_names)
    probes = []
    for position in range(0, total, max(1, total // _PROBES)):
        name = entries.file_names[position]
        _, file = entries.videos.get(entries.image_videos[position], ("", None))
        if is_video_file(file):
            probes.append([file])
        else:
            probes.append([*([f"{file}/{name}"] if file else []), name])
    return probes


def _is_there(place: Path, names: list[str]) -> bool:
    return any((place / name).is_file() for name in names)
