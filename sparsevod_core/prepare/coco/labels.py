"""COCO-VID JSON of the user's own, or plain COCO JSON whose images are frames of videos.

`videos` with `file_name` names a video file or a folder; without the section, images with a
`video_id` belong together, else those of one folder (`frame_names.py`). Ids of images and classes
stay as they are; gaps and a start at 0 or 1 are as good as any. They must be whole numbers, since
they come out again in every result. Tracks are `instance_id` or `track_id` and may be missing, as
may sizes (read from the file), `frame_id` (read from the name), `area`, `iscrowd` and ids of
annotations. Boxes are `[x, y, width, height]` in pixels from 0, and stay as they are.

Source: cocodataset.org/#format-data; MMTracking's CocoVID.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from sparsevod_core.data.annotation_join import VIDEO_FILE_NAME
from sparsevod_core.errors import DataError
from sparsevod_core.prepare.coco.entries import CocoEntries, read_coco_entries
from sparsevod_core.prepare.coco.groups import group_images
from sparsevod_core.prepare.coco.videos import CocoVideo, CocoVideos
from sparsevod_core.prepare.reading.annotated import AnnotatedFrame, AnnotatedVideo, LabelledBox
from sparsevod_core.prepare.reading.class_names import categories_of
from sparsevod_core.prepare.reading.image_size import read_image_size
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
"""So many names are looked for to find the folder that names start from."""
_HEAD_BYTES = 1 << 16
_OURS = b'"tool": "sparsevod'


def find_coco(root: Path, hints: Hints, reporter: Reporter) -> LabelSet:
    """The set in a JSON file, or in the files for `train` and `val` of a folder.

    Raises:
        DataError: no such file, one that cannot be read, none of its images or videos to be found,
            or two files that call one class by two names.
    """
    files = coco_files(root)
    if not files:
        raise DataError(f"{root}: no COCO file here: expected a .json with images and annotations")
    contents: dict[str, CocoEntries] = {}
    with reporter.progress("reading annotations", len(files), "files") as progress:
        for split, path in files.items():
            contents[split] = read_coco_entries(path)
            progress.advance(note=path.name)
    names = _common_names(list(contents.values()))
    places = {split: _find_place(root, split, contents[split], hints) for split in contents}
    common = Path(os.path.commonpath(list(places.values())))
    groups = {split: group_images(entries, hints) for split, entries in contents.items()}
    in_files = [group.numbers for found in groups.values() for group in found if group.file]
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
    """Reads one video: checks that its frames are there, of the size that the JSON says."""

    root: Path
    first_frame: int

    def __call__(self, source: CocoVideo) -> AnnotatedVideo:
        video = AnnotatedVideo(source.name, source.is_video, source.file)
        frames = self._frames_in_file if source.file else self._frames_in_images
        for position, frame in frames(source, video):
            for box in source.boxes_of(position):
                left, top, width, height = box.box_ltwh
                labelled = LabelledBox(
                    box.class_id,
                    (left, top, left + width, top + height),
                    box.track,
                    occluded=box.is_occluded,
                    generated=box.is_generated,
                    is_crowd=box.is_crowd,
                )
                add_box(video, frame, labelled, f"{source.path}: annotations[{box.place}]")
            video.frames.append(frame)
        return finish(video)

    def _frames_in_file(
        self, source: CocoVideo, video: AnnotatedVideo
    ) -> Iterator[tuple[int, AnnotatedFrame]]:
        numbers = [number - self.first_frame for number in source.numbers]
        path = self.root / str(source.file)
        height, width, there = frames_in_file(path, numbers, video.problems)
        count = len(there)
        for position, number in enumerate(numbers[:count]):
            said = source.size_of(position)
            if number < 0:
                video.problems.append(
                    f"{source.path}: image {source.image_ids[position]}: frame {number} of "
                    f"{source.file}, left out: numbers start at {self.first_frame}"
                )
            elif said not in ((0, 0), (height, width)):
                video.problems.append(_other_size(source, position, path, height, width))
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
                video.problems.append(f"{error.message}, left out")
                continue
            if source.size_of(position) not in ((0, 0), (height, width)):
                video.problems.append(_other_size(source, position, path, height, width))
                continue
            frame = source.frame(position, number, height, width)
            frame.file_name = name
            yield position, frame


def _other_size(source: CocoVideo, position: int, path: Path, height: int, width: int) -> str:
    said = source.size_of(position)
    return (
        f"{path}: {width}x{height} pixels, but {source.path} says {said[1]}x{said[0]} for image "
        f"{source.image_ids[position]}, left out"
    )


def coco_files(root: Path) -> dict[str, Path]:
    """JSON files by split, or one as `all`; the files that we wrote only where there are no others.

    They lie in `root` or in its folder `annotations`, and are called `train.json`,
    `instances_val2017.json` or the like where they belong to a split.
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
            hint="name the file to convert instead of the folder",
        )
    return {"all": paths[0]} if paths else {}


def is_prepared(path: Path) -> bool:
    """Whether a file is what `prepare-vid` wrote."""
    return _OURS in _head(path)


def _head(path: Path) -> bytes:
    """The beginning and the end of a file: sections stand in any order."""
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
    """The folder that file names start from: the first of the likely ones where most are found."""
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
        raise DataError(f"{entries.path}: no image that can be used: {reason}")
    hits = [sum(_is_there(place, probe) for probe in probes) for place in candidates]
    if not any(hits):
        looked = ", ".join(map(str, dict.fromkeys(candidates))) or str(hints.images)
        raise DataError(
            f"{entries.path}: {probes[0][-1]} and the others that it names are in none of: "
            f"{looked}",
            hint="say where images or videos lie with --images FOLDER",
        )
    return candidates[hits.index(max(hits))]


def _probes(entries: CocoEntries) -> list[list[str]]:
    """For some images, the names that any place must have one of."""
    total = len(entries.file_names)
    found = []
    for position in range(0, total, max(1, total // _PROBES)):
        name = entries.file_names[position]
        _, file = entries.videos.get(entries.image_videos[position], ("", None))
        if file and VIDEO_FILE_NAME.search(file):
            found.append([file])
        else:
            found.append([*([f"{file}/{name}"] if file else []), name])
    return found


def _is_there(place: Path, names: list[str]) -> bool:
    return any((place / name).is_file() for name in names)
