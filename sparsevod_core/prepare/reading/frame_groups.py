"""Grouping of image files into videos by their names (`frame_names.py`).

    a/000001.jpg  a/000002.jpg            video `a`
    a/frame_1.jpg a/frame_2.jpg           video `a`
    a_000001.jpg  a_000002.jpg            video `a`
    0a1b2c3d-a_1.jpg  4e5f6071-a_2.jpg    video `a`: each file has a hash of its own
    000001.jpg    000002.jpg              still images: nothing says that they are one video

Files with the same folder and the same name apart from the frame number are one video, called after
the folder if it holds only one such name. Where that leaves files alone, other readings of their
names are tried. Each needs evidence in the names of several files.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from sparsevod_core.prepare.reading.frame_names import (
    EXPORT_MARK,
    SEPARATORS,
    UUID,
    FrameName,
    split_masked,
    split_name,
    stem_of,
)

_HASH = rf"(?P<hash>{UUID}|[0-9a-f]{{6,40}})"
_HASHED = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        rf"{_HASH}(?P<rest>)",
        rf"{_HASH}(?:__|[-_.])(?P<rest>.+)",
        rf"(?P<rest>.+)[-_.]{_HASH}",
    )
)
_PADDED_FIRST = re.compile(r"(?:(?:img|image)[-_. ]*)?(?P<number>0\d{2,})(?P<tail>\D.*)", re.I)
_BEHIND_TIME = re.compile(
    r"(?P<head>.*?)(?<!\d)(?P<time>(?:19|20)\d{6}[-_T]?\d{6,9})[-_](?P<number>\d+)(?P<tail>\D*)"
)

Frames = list[tuple[int, str]]
"""(frame number, path) of each file."""


@dataclass(frozen=True, slots=True)
class ImageFrames:
    """Image files of one video, or the still images of one folder.

    Attributes:
        name: Name of the video, unique within a set.
        files: (frame number, path relative to the root) in temporal order; still images are
            numbered from 0.
        is_video: False for still images.
    """

    name: str
    files: tuple[tuple[int, str], ...]
    is_video: bool = True


def group_frames(
    files: Iterable[str], base: str = "", *, by_folder: bool = False
) -> list[ImageFrames]:
    """Group image files into videos and still images, sorted by name.

    Args:
        files: Paths relative to the root, with forward slashes.
        base: Folder below the root that is not part of video names.
        by_folder: If True, all numbered frames of a folder are one video, whatever their names.
    """
    folders: defaultdict[str, list[str]] = defaultdict(list)
    for file in files:
        folders[file.rpartition("/")[0]].append(file)
    groups = []
    names: Counter[str] = Counter()
    for place, paths in folders.items():
        folder = "/".join(PurePosixPath(place).relative_to(base or ".").parts)
        videos, stills = _group_folder(paths, is_named=bool(folder) or by_folder)
        if by_folder and videos:
            videos = {"": [frame for frames in videos.values() for frame in frames]}
        for video, frames in videos.items():
            parts = [folder, video if len(videos) > 1 or not folder else ""]
            name = "/".join(filter(None, parts)) or PurePosixPath(base).name or "video"
            names[name] += 1
            name += f"_{names[name]}" if names[name] > 1 else ""
            groups.append(ImageFrames(name, tuple(sorted(frames))))
        if stills:
            name = "/".join(filter(None, [folder, "stills"]))
            groups.append(ImageFrames(name, tuple(enumerate(sorted(stills))), False))
    return sorted(groups, key=lambda group: group.name)


def lone_frames(groups: Iterable[tuple[str, Sequence[str]]]) -> list[str]:
    """Return the names of the groups of one file whose folder holds other groups, too.

    They were taken for a video because of their file names only, which may be a wrong guess.

    Args:
        groups: Name and files of each group.
    """
    found = [(name, files[0].rpartition("/")[0], len(files)) for name, files in groups if files]
    groups_in = Counter(folder for _, folder, _ in found)
    return [name for name, folder, number in found if number == 1 and groups_in[folder] > 1]


def _group_folder(files: list[str], *, is_named: bool) -> tuple[dict[str, Frames], list[str]]:
    """Return the frames of each video in a folder, and the still images.

    `is_named` tells whether the name of the folder can be that of a video.
    """
    videos: defaultdict[str, Frames] = defaultdict(list)
    stills: list[str] = []
    unsure: dict[str, str] = {}  # file to stem
    for file in files:
        stem = stem_of(file)
        name = split_name(stem)
        if name.number is None:
            unsure[file] = stem
        elif name.video or name.says_frame or is_named:
            videos[name.video].append((name.number, file))
        else:
            stills.append(file)
    for video, frames in list(videos.items()):
        if len(frames) == 1:
            del videos[video]
            unsure[frames[0][1]] = stem_of(frames[0][1])
    if len(unsure) > 1:
        unsure = _without_hashes(unsure)
        for read in (split_name, _split_padded, split_masked, _split_behind_time):
            for frames in _readings(unsure, read).values():
                if len(frames) > 1 and _is_plausible(frames, unsure, read):
                    name = read(unsure[frames[0][1]])
                    if name.video or name.says_frame or is_named:
                        videos[name.video] += frames
                    else:
                        stills += [file for _, file in frames]
                    for _, file in frames:
                        del unsure[file]
    for frames in _readings(unsure, split_name).values():
        file = frames[0][1]
        name = split_name(unsure[file])
        if len(frames) == 1 and name.is_certain and (name.video or name.says_frame or is_named):
            videos[name.video] += frames
            del unsure[file]
    return videos, stills + list(unsure)


def _readings(stems: Mapping[str, str], read: Callable[[str], FrameName]) -> dict[str, Frames]:
    """Return the numbered files by the video in their names."""
    videos: defaultdict[str, Frames] = defaultdict(list)
    for file, stem in stems.items():
        name = read(stem)
        if name.number is not None:
            videos[name.video].append((name.number, file))
    return videos


def _is_plausible(
    frames: Frames, stems: Mapping[str, str], read: Callable[[str], FrameName]
) -> bool:
    """Return whether a reading of names gives (nearly) every file a number of its own."""
    numbers = {number for number, _ in frames}
    if read is split_name:  # some frames may be in the folder twice
        return len(numbers) >= 0.9 * len(frames)
    if read is _split_behind_time:  # a counter that grows with the time
        in_order = [stems[file] for _, file in sorted(frames)]
        is_dense = len(frames) > 2 and max(numbers) - min(numbers) < 2 * len(frames)
        return is_dense and in_order == sorted(in_order) and len(numbers) == len(frames)
    return len(numbers) == len(frames)


def _without_hashes(stems: dict[str, str]) -> dict[str, str]:
    """Return the names without the hash that annotation tools give each file."""
    stems = {file: EXPORT_MARK.sub("", stem, 1) for file, stem in stems.items()}
    for pattern in _HASHED:
        matches = {
            file: match for file, stem in stems.items() if (match := pattern.fullmatch(stem))
        }
        hashes = {match["hash"].lower() for match in matches.values()}
        num_mixed = sum(not text.isdigit() and not text.isalpha() for text in hashes)
        is_of_file = len(hashes) >= 0.9 * len(matches) and num_mixed > 0.5 * len(hashes)
        if len(matches) > 1 and is_of_file:
            stems = stems | {file: match["rest"] for file, match in matches.items()}
    return stems


def _split_padded(stem: str) -> FrameName:
    """Read `0012_0` and `000012_1920x1080`, whose last number is not the frame's."""
    match = _PADDED_FIRST.fullmatch(stem)
    if match is None:
        return FrameName(stem, None)
    video = match["tail"].strip(SEPARATORS)
    return FrameName(video if any(map(str.isalpha, video)) else "", int(match["number"]))


def _split_behind_time(stem: str) -> FrameName:
    """Read `DJI_20240501120000_0012_V`, whose time differs in every file."""
    match = _BEHIND_TIME.fullmatch(stem)
    if match is None:
        return FrameName(stem, None)
    return FrameName(
        (match["head"] + match["tail"].lstrip(SEPARATORS)).strip(SEPARATORS), int(match["number"])
    )
