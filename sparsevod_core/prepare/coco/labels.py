"""Users' own COCO-VID JSON, or plain COCO JSON whose images are frames of videos.

The `file_name` of an entry of `videos` is a video file or a folder. Without `videos`, images with
the same video form one; without that, those of a folder do (`videos.py`). Ids of images and classes
are kept, so they must be whole numbers; gaps and a start at 0 or 1 are fine. Optional are tracks,
sizes (read from the file), frame numbers (read from the name), `area`, `iscrowd` and ids of
annotations. Boxes are `[x, y, width, height]` in pixels from 0, and are kept.

`files.py` finds the JSON files, `entries.py` reads them, `box_form.py` checks the form of boxes,
`places.py` finds the images, and `overlap.py` compares train and val.

Source: cocodataset.org/#format-data; MMTracking's CocoVID.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from sparsevod_core.errors import DataError
from sparsevod_core.prepare.coco.box_form import require_sizes_in_pixels
from sparsevod_core.prepare.coco.entries import CocoEntries, read_coco_entries
from sparsevod_core.prepare.coco.files import find_files
from sparsevod_core.prepare.coco.overlap import SplitFrames, describe_overlap
from sparsevod_core.prepare.coco.places import find_place
from sparsevod_core.prepare.coco.videos import CocoVideo, CocoVideos, alone, below, group_images
from sparsevod_core.prepare.reading.annotated import AnnotatedFrame, AnnotatedVideo
from sparsevod_core.prepare.reading.class_names import categories_of
from sparsevod_core.prepare.reading.first_frame import first_frames
from sparsevod_core.prepare.reading.image_size import read_image_size, size_problem
from sparsevod_core.prepare.reading.label_set import Hints, LabelSet, Split
from sparsevod_core.prepare.reading.media import add_box, finish, frames_in_file
from sparsevod_core.reporting import Reporter


def find_coco(root: Path, hints: Hints, reporter: Reporter) -> LabelSet:
    """Find the set in a JSON file, or in the files for `train` and `val` of a folder.

    Raises:
        DataError: no such file, an unreadable one, none of its images or videos found, or two files
            with different names for one class.
    """
    found = find_files(root)
    files = found.splits
    if not files:
        raise DataError(f"{root}: no COCO file: expected a .json with images and annotations")
    contents: dict[str, CocoEntries] = {}
    with reporter.progress("reading annotations", len(files), "files") as progress:
        for split, path in files.items():
            contents[split] = read_coco_entries(path)
            progress.advance(note=path.name)
    names = _common_names(list(contents.values()))
    places = {split: find_place(root, split, contents[split], hints) for split in contents}
    for entries in contents.values():
        require_sizes_in_pixels(entries)
    common = Path(os.path.commonpath(list(places.values())))
    groups = {split: group_images(entries, hints) for split, entries in contents.items()}
    if len(contents) == 2:
        frames = [SplitFrames(contents[key], places[key], groups[key]) for key in contents]
        if overlap := describe_overlap(*frames):
            contents["val"].problems.append(overlap)
    bases = {split: place.relative_to(common).as_posix() for split, place in places.items()}
    bases = {split: "" if base == "." else base for split, base in bases.items()}
    numbers: dict[str, list[int]] = {}
    for split, found_groups in groups.items():
        for group in found_groups:
            if group.file:
                file = below(bases[split], group.file)
                numbers[file] = sorted([*numbers.get(file, ()), *group.numbers])
    first, notes = first_frames(common, numbers, hints.first_frame)
    splits = {
        split: Split(
            CocoVideos(entries, groups[split], bases[split], first),
            entries.problems,
            alone(entries, groups[split]),
        )
        for split, entries in contents.items()
    }
    reader = CocoReader(common)
    if found.left_out:
        lists = [
            ", ".join(path.relative_to(root).as_posix() for path in paths)
            for paths in (files.values(), found.left_out[:8])
        ]
        notes.append(f"reading {lists[0]}; left out: {lists[1]}")
    notes += [note for entries in contents.values() for note in entries.notes]
    categories = categories_of(names, next(iter(files.values())))
    json_files = [*files.values(), *found.left_out]
    return LabelSet(common, categories, splits, reader, notes, json_files)


@dataclass(frozen=True, slots=True)
class CocoReader:
    """Reader of one video; checks that its frames exist and have the size given in the JSON."""

    root: Path

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
        numbers = [frame.number - source.first_frame for frame in source.frames]
        height, width, existing = frames_in_file(path, numbers, problems)
        for position, (frame, number) in enumerate(zip(source.frames, existing, strict=False)):
            if number < 0:
                problems.append(
                    f"{source.path}: image {frame.image_id}: frame {number} of {source.file}, "
                    f"skipped: numbers start at {source.first_frame}"
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
