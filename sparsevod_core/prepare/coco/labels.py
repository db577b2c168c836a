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
from dataclasses import dataclass, replace
from pathlib import Path

from sparsevod_core.data.annotation_file import is_video_file
from sparsevod_core.errors import DataError
from sparsevod_core.prepare.coco.entries import CocoEntries, read_coco_entries
from sparsevod_core.prepare.coco.videos import CocoVideo, CocoVideos, alone, group_images
from sparsevod_core.prepare.reading.annotated import AnnotatedFrame, AnnotatedVideo
from sparsevod_core.prepare.reading.class_names import categories_of
from sparsevod_core.prepare.reading.image_size import read_image_size, size_problem
from sparsevod_core.prepare.reading.label_set import (
    SPLIT_NAMES,
    Hints,
    LabelSet,
    Split,
    first_frame_number,
)
from sparsevod_core.prepare.reading.media import add_box, finish, frames_in_file
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
        splits[split] = Split(
            CocoVideos(entries, groups[split], base),
            entries.problems,
            alone(entries, groups[split]),
        )
    reader = CocoReader(common, first_frame)
    notes = [f"annotations count the frames of a video file from {first_frame}"] * first_frame
    return LabelSet(common, categories_of(names, next(iter(files.values()))), splits, reader, notes)


@dataclass(frozen=True, slots=True)
class CocoReader:
    """Reader of one video; checks that its frames exist and have the size given in the JSON."""

    root: Path
    first_frame: int

    def __call__(self, source: CocoVideo) -> AnnotatedVideo:
        video = AnnotatedVideo(source.name, source.is_video, source.file)
        frames = self._in_file if source.file else self._in_images
        for position, frame in frames(source, video.problems):
            for place, box in source.boxes_of(position):
                add_box(video, frame, box, f"{source.path}: annotations[{place}]")
            video.frames.append(frame)
        return finish(video)

    def _in_file(
        self, source: CocoVideo, problems: list[str]
    ) -> Iterator[tuple[int, AnnotatedFrame]]:
        path = self.root / str(source.file)
        numbers = [frame.number - self.first_frame for frame in source.frames]
        height, width, existing = frames_in_file(path, numbers, problems)
        for position, (frame, number) in enumerate(zip(source.frames, existing, strict=False)):
            if number < 0:
                problems.append(
                    f"{source.path}: image {frame.image_id}: frame {number} of {source.file}, "
                    f"skipped: numbers start at {self.first_frame}"
                )
                continue
            sized = _sized(source, frame, path, (height, width), problems)
            if sized is None:
                return
            sized.number = number
            yield position, sized

    def _in_images(
        self, source: CocoVideo, problems: list[str]
    ) -> Iterator[tuple[int, AnnotatedFrame]]:
        for position, frame in enumerate(source.frames):
            name = source.file_name(frame)
            if source.folder and not (self.root / name).is_file():
                name = f"{source.folder}/{frame.file_name}"
            path = self.root / name
            try:
                sized = _sized(source, frame, path, read_image_size(path), problems)
            except DataError as error:
                problems.append(f"{error.message}, skipped")
                continue
            if sized is not None:
                sized.file_name = name
                yield position, sized


def _sized(
    source: CocoVideo,
    frame: AnnotatedFrame,
    path: Path,
    size: tuple[int, int],
    problems: list[str],
) -> AnnotatedFrame | None:
    """Return a copy of the frame with the (height, width) of its pixels; None if they disagree."""
    if (frame.height, frame.width) in ((0, 0), size):
        return replace(frame, height=size[0], width=size[1], boxes=[])
    where = f"{source.path}, image {frame.image_id}, has"
    problems.append(f"{size_problem(path, size, (frame.height, frame.width), where)}, skipped")
    return None


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
    hits = [
        sum(any((place / name).is_file() for name in names) for names in probes)
        for place in candidates
    ]
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
    total = len(entries.images.ids)
    probes = []
    for position in range(0, total, max(1, total // _PROBES)):
        name = entries.file_names[position]
        _, file = entries.video_of.get(entries.images.video_ids[position], ("", None))
        if is_video_file(file):
            probes.append([file])
        else:
            probes.append([*([f"{file}/{name}"] if file else []), name])
    return probes
