"""Which images of a COCO file are one video, and in which order."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int

from sparsevod_core.data.annotation_join import VIDEO_FILE_NAME
from sparsevod_core.prepare.coco.entries import UNKNOWN, CocoEntries
from sparsevod_core.prepare.reading.frame_names import group_frames, split_number
from sparsevod_core.prepare.reading.label_set import Hints


@dataclass(frozen=True, slots=True)
class ImageGroup:
    """Images that are one video, or stills.

    Attributes:
        name: of the video.
        file: the video file that holds the frames; None for images.
        folder: of the images, where `videos` names one.
        images: positions in the file's columns, in order of time.
        numbers: of the frames as annotated; parallel.
        is_video: False for stills.
    """

    name: str
    file: str | None
    folder: str | None
    images: Int[np.ndarray, " n"]
    numbers: list[int]
    is_video: bool


def group_images(entries: CocoEntries, hints: Hints) -> list[ImageGroup]:
    """The videos of a file, in the order of `videos` or of names, then stills.

    Images that cannot be placed are added to the file's problems.
    """
    images = _distinct_images(entries)
    of_videos = [image for image in images if entries.image_videos[image] != UNKNOWN]
    if not entries.videos and not of_videos:
        return _by_name(entries, images, hints)
    by_id: defaultdict[int, list[int]] = defaultdict(list)
    for image in of_videos:
        by_id[entries.image_videos[image]].append(image)
    groups = []
    for video_id in entries.videos or sorted(by_id):
        name, file = entries.videos.get(video_id, (str(video_id), None))
        found = by_id.pop(video_id, [])
        if found:
            groups.append(_group(entries, name, file, found))
    for video_id, found in by_id.items():
        entries.problems.append(
            f"{entries.path}: image {entries.image_ids[found[0]]}: video_id {video_id} is not in "
            f"videos, {len(found)} images left out"
        )
    stills = [image for image in images if entries.image_videos[image] == UNKNOWN]
    if stills:
        groups.append(_stills(stills))
    return groups


def _distinct_images(entries: CocoEntries) -> list[int]:
    """Positions of the images whose id is not that of an earlier one."""
    ids = np.frombuffer(entries.image_ids, np.int64)
    _, first = np.unique(ids, return_index=True)
    if len(first) < len(ids):
        for image in np.setdiff1d(np.arange(len(ids)), first).tolist():
            entries.problems.append(
                f"{entries.path}: image id {ids[image]} is there twice, "
                f"{entries.file_names[image]} left out"
            )
    return sorted(first.tolist())


def _group(entries: CocoEntries, name: str, file: str | None, images: list[int]) -> ImageGroup:
    """A video's images in order of time; two for one frame become a problem."""
    numbers = [entries.image_frames[image] for image in images]
    if UNKNOWN in numbers:
        stems = (entries.file_names[image].rpartition(".")[0] for image in images)
        from_names = [split_number(stem)[1] for stem in stems]
        numbers = [place if number is None else number for place, number in enumerate(from_names)]
        if None in from_names:
            numbers = list(range(len(images)))
    kept: dict[int, int] = {}
    for number, image in sorted(zip(numbers, images, strict=True)):
        if number in kept:
            entries.problems.append(
                f"{entries.path}: images {entries.image_ids[kept[number]]} and "
                f"{entries.image_ids[image]} are both frame {number} of {name}, the second left out"
            )
        else:
            kept[number] = image
    is_file = bool(file and VIDEO_FILE_NAME.search(file))
    return ImageGroup(
        name,
        file if is_file else None,
        None if is_file else file,
        np.array(list(kept.values()), np.int64),
        list(kept),
        is_video=True,
    )


def _stills(images: list[int], name: str = "stills") -> ImageGroup:
    places = np.array(images, np.int64)
    return ImageGroup(name, None, None, places, list(range(len(images))), is_video=False)


def _by_name(entries: CocoEntries, images: list[int], hints: Hints) -> list[ImageGroup]:
    """Videos from the names of the files alone."""
    by_file: dict[str, int] = {}
    for image in images:
        name = entries.file_names[image]
        if by_file.setdefault(name, image) != image:
            entries.problems.append(
                f"{entries.path}: image {entries.image_ids[image]}: {name} is image "
                f"{entries.image_ids[by_file[name]]} already, left out"
            )
    groups = []
    for found in group_frames(by_file, by_folder=hints.group_by_folder):
        places = [by_file[file] for _, file in found.files]
        if found.is_video:
            groups.append(_group(entries, found.name, None, places))
        else:
            groups.append(_stills(places, found.name))
    return groups
