"""What the name of an image file says about its place in a video.

    000012, frame_12, img000012             frame 12
    clip_000012, clip-frame12, clip (12)    frame 12 of `clip`
    000012_clip, img_12_left                frame 12 of `clip`, of `left`
    clip_frame_0012_0                       frame 12 of `clip_0`
    clip_mp4-12_jpg.rf.0123abcd             frame 12 of `clip_mp4`, as exported by Roboflow
    clip_00-00-01.040                       millisecond 1040 of `clip` (`frame_times.py`)
    4f8c1a0b-9d2e-4c55-8e31-d09a7b6c2f10    nothing: a hash has no order

The frame number is the number behind the word "frame", and without that word the last number.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from sparsevod_core.prepare.reading.frame_times import split_time

UUID = "[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
_HASH = re.compile(rf"{UUID}|(?=[0-9]*[a-f])(?=[a-f]*[0-9])[0-9a-f]{{16,}}", re.IGNORECASE)
_BEHIND_FRAME = re.compile(
    r"(?P<head>(?:.*[_\-. ])?)(?:frame|frm)[_\-. #]*(?P<number>[0-9]+)(?P<tail>.*)", re.IGNORECASE
)
_LAST = re.compile(r"(?P<head>.*?)(?P<number>[0-9]+)(?P<tail>[^0-9]*)")
_FRAME_WORD = re.compile(r"(?:^|(?<=[_\-. ]))(?:frame|frm|img|image)[_\-. #]*$", re.IGNORECASE)
EXPORT_MARK = re.compile(r"(?:[_.](?:jpe?g|png|bmp|webp|tiff?))?(?:\.rf\.[0-9a-z]+)?$", re.I)
SEPARATORS = "_-. #()[]"
_MAX_NUMBER = 2**63 - 1


class FrameName(NamedTuple):
    """Reading of a name.

    Attributes:
        video: Name without the frame number; "" if nothing is left.
        number: Frame number or time in milliseconds; None without any.
        is_certain: True if the number ends the name, or follows the word "frame".
        says_frame: True if the number follows the word "frame".
    """

    video: str
    number: int | None
    is_certain: bool = False
    says_frame: bool = False


def stem_of(file: str) -> str:
    """Return the name of a file without its folders and its suffix."""
    name = file.rpartition("/")[2]
    return name.rpartition(".")[0] or name


def split_name(stem: str) -> FrameName:
    """Read a file name without its suffix."""
    stem = EXPORT_MARK.sub("", stem, 1)
    if _HASH.fullmatch(stem):
        return FrameName(stem, None)
    if match := _BEHIND_FRAME.fullmatch(stem):
        name = FrameName(_joined(match["head"], match["tail"]), int(match["number"]), True, True)
    elif time := split_time(stem):
        head, number, tail = time
        name = FrameName(_joined(head, tail), number, not tail.strip(SEPARATORS))
    elif match := _LAST.fullmatch(stem):
        tail = match["tail"].strip(SEPARATORS)
        name = FrameName(_joined(match["head"], tail), int(match["number"]), not tail)
    else:
        return FrameName(stem, None)
    return FrameName(stem, None) if (name.number or 0) > _MAX_NUMBER else name


def split_number(stem: str) -> tuple[str, int | None]:
    """Return the video and the frame number in a name, e.g. `cam1` and 12 of `cam1_frame_0012`."""
    name = split_name(stem)
    return name.video, name.number


def split_masked(stem: str) -> FrameName:
    """Read a name with the word "frame", whatever the numbers behind the frame number are."""
    match = _BEHIND_FRAME.fullmatch(EXPORT_MARK.sub("", stem, 1))
    if match is None or int(match["number"]) > _MAX_NUMBER:
        return FrameName(stem, None)
    tail = re.sub(r"[0-9]+", "#", match["tail"])
    return FrameName(_joined(match["head"], tail), int(match["number"]), True, True)


def _joined(head: str, tail: str) -> str:
    # Brackets go with the number in `clip (12)`, but not in `[left]_12`.
    head = _FRAME_WORD.sub("", head).strip("_-. ").rstrip("_-. #([")
    tail = tail.strip("_-. #").lstrip("_-. )]")
    return f"{head}_{tail}" if head and tail else head or tail
