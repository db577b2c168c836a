"""Grouping of the images of a COCO file into videos, and their order."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int

from sparsevod_core.data.annotation_file import is_video_file
from sparsevod_core.data.json_fields import MISSING
from sparsevod_core.prepare.coco.entries import CocoEntries
from sparsevod_core.prepare.reading.frame_names import group_frames, split_number
from sparsevod_core.prepare.reading.label_set import Hints


@dataclass(frozen=True, slots=True)
class ImageGroup:
    """Images that form a video, or stills.

    Attributes:
        name: Name of the video.
        file: Video file that holds the frames; None for images.
        folder: Folder of the images, if `videos` names one.
        images: Positions in the file's columns, in order of time.
        numbers: Frame numbers as annotated; parallel to `images`.
        is_video: False for stills.
    """

    name: str
    file: str | None
    folder: str | None
    images: Int[np.ndarray, " n"]
    numbers: list[int]
    is_video: bool


def group_images(entries: CocoEntries, hints: Hints) -> list[ImageGroup]:
    """Return the videos of a file, in the order of `videos` or of names, then the stills.

    Images that belong nowhere are added to the file's problems.
    """
    images, of_video = np.flatnonzero(entries.is_usable).tolist(), entries.images.video_ids
    if not entries.video_of and all(of_video[image] == MISSING for image in images):
        return _by_name(entries, images, hints)
    by_id: defaultdict[int, list[int]] = defaultdict(list)
    for image in images:
        by_id[of_video[image]].append(image)
    stills = by_id.pop(MISSING, [])
    groups = []
    for video_id in entries.video_of or sorted(by_id):
        name, file = entries.video_of.get(video_id, (str(video_id), None))
        if images := by_id.pop(video_id, []):
            groups.append(_group(entries, name, file, images))
    for video_id, images in by_id.items():
        reason = f"video_id {video_id} is not in 'videos' ({len(images)} such images)"
        entries.skip(f"image {entries.images.ids[images[0]]}", reason)
    return [*groups, _stills(stills)] if stills else groups


def _group(entries: CocoEntries, name: str, file: str | None, images: list[int]) -> ImageGroup:
    """Return a video's images in order of time; two for one frame become a problem."""
    numbers = [entries.images.frame_ids[image] for image in images]
    if MISSING in numbers:
        stems = (entries.file_names[image].rpartition(".")[0] for image in images)
        from_names = [split_number(stem)[1] for stem in stems]
        numbers = [number for number in from_names if number is not None]
        if len(numbers) < len(images):
            numbers = list(range(len(images)))
    kept: dict[int, int] = {}
    for number, image in sorted(zip(numbers, images, strict=True)):
        if (first := kept.setdefault(number, image)) != image:
            ids = entries.images.ids
            reason = f"frame {number} of {name} is already image {ids[first]}"
            entries.skip(f"image {ids[image]}", reason)
    is_file = is_video_file(file)
    return ImageGroup(
        name,
        file if is_file else None,
        None if is_file else file,
        np.array(list(kept.values()), np.int64),
        list(kept),
        is_video=True,
    )


def _stills(images: list[int], name: str = "stills") -> ImageGroup:
    positions = np.array(images, np.int64)
    return ImageGroup(name, None, None, positions, list(range(len(images))), is_video=False)


def _by_name(entries: CocoEntries, images: list[int], hints: Hints) -> list[ImageGroup]:
    """Group images by their file names."""
    by_file: dict[str, int] = {}
    for image in images:
        name = entries.file_names[image]
        if (first := by_file.setdefault(name, image)) != image:
            reason = f"{name} is already image {entries.images.ids[first]}"
            entries.skip(f"image {entries.images.ids[image]}", reason)
    groups = []
    for group in group_frames(by_file, by_folder=hints.group_by_folder):
        positions = [by_file[file] for _, file in group.files]
        if group.is_video:
            groups.append(_group(entries, group.name, None, positions))
        else:
            groups.append(_stills(positions, group.name))
    return groups
