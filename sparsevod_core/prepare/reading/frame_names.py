"""Grouping of image files into videos by their names.

    a/000001.jpg  a/000002.jpg          video `a`
    a/frame_1.jpg a/frame_2.jpg         video `a`
    a_000001.jpg  a_000002.jpg          video `a`
    000001.jpg    000002.jpg            still images: nothing says that they are one video

The last digits of a name are the frame number. Frames with the same folder and the same name before
the number are one video, called after the folder if it holds only one such name.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import PurePosixPath

_NUMBERED = re.compile(r"(.*?)([0-9]{1,12})")
_FRAME_WORD = re.compile(r"(^|[_\-. ])(frame|img|image)[_\-. ]*$", re.IGNORECASE)
# Roboflow exports `clip_mp4-12.jpg` as `clip_mp4-12_jpg.rf.0123abcd.jpg`.
_EXPORT_MARK = re.compile(r"_(jpe?g|png|bmp|webp|tiff?)\.rf\.[0-9A-Za-z]+$")
_SEPARATORS = "_-. "


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


def split_number(stem: str) -> tuple[str, int | None]:
    """Split the last digits off a name (None if it ends in none).

    `cam1_frame_0012` gives `cam1` and 12.
    """
    match = _NUMBERED.fullmatch(_EXPORT_MARK.sub("", stem))
    if match is None:
        return stem, None
    return _FRAME_WORD.sub("", match[1]).strip(_SEPARATORS), int(match[2])


def group_frames(
    files: Iterable[str], base: str = "", *, by_folder: bool = False
) -> list[ImageFrames]:
    """Group image files into videos and still images, sorted by name.

    Args:
        files: Paths relative to the root, with forward slashes.
        base: Folder below the root that is not part of video names.
        by_folder: If True, all numbered frames of a folder are one video, whatever their names.
    """
    folders: defaultdict[str, defaultdict[str, list[tuple[int, str]]]]
    folders = defaultdict(lambda: defaultdict(list))
    stills: defaultdict[str, list[str]] = defaultdict(list)
    for file in files:
        path = PurePosixPath(file)
        folder = "/".join(path.parent.relative_to(base or ".").parts)
        prefix, number = split_number(path.stem)
        if number is None or not (folder or prefix or by_folder):
            stills[folder].append(file)
        else:
            folders[folder]["" if by_folder else prefix].append((number, file))
    groups = []
    for folder, videos in folders.items():
        for prefix, frames in videos.items():
            parts = [folder, prefix if len(videos) > 1 or not folder else ""]
            name = "/".join(filter(None, parts)) or PurePosixPath(base).name or "video"
            groups.append(ImageFrames(name, tuple(sorted(frames))))
    for folder, names in stills.items():
        numbered = tuple(enumerate(sorted(names)))
        groups.append(ImageFrames("/".join(filter(None, [folder, "stills"])), numbered, False))
    return sorted(groups, key=lambda group: group.name)
