"""The boxes of a CVAT track that are visible, those included that an XML leaves to interpolation.

Source: cvat/apps/dataset_manager/annotation.py, TrackManager.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from sparsevod_core.prepare.cvat.xml_reader import CvatBox
from sparsevod_core.prepare.reading.annotated import Box


def fill_track(
    boxes: Sequence[CvatBox], numbers: range, offset: int = 0
) -> Iterator[tuple[CvatBox, int]]:
    """The boxes of a track that are visible, those between two that the file has included.

    Args:
        boxes: of one track.
        numbers: frames of the task.
        offset: taken off the frames of the boxes.

    Yields:
        A box and its frame; filled-in boxes have the line of the box before them and are no
        keyframes.
    """
    ordered = sorted(boxes, key=lambda box: box.frame)
    for place, box in enumerate(ordered):
        if box.is_outside:
            continue
        number = box.frame - offset
        yield box, number
        following = ordered[place + 1] if place + 1 < len(ordered) else None
        end = numbers.stop if following is None else following.frame - offset
        for between in range(number + numbers.step, end, numbers.step):
            share = 0.0 if following is None else (between - number) / (end - number)
            yield _between(box, following or box, share), between


def _between(box: CvatBox, following: CvatBox, share: float) -> CvatBox:
    sides = zip(box.box_xyxy, following.box_xyxy, strict=True)
    left, top, right, bottom = (first + (second - first) * share for first, second in sides)
    # The shorter way round the circle.
    turn = (following.rotation - box.rotation + 180) % 360 - 180
    return CvatBox(
        box.line,
        box.frame,
        (left, top, right, bottom),
        (box.rotation + turn * share) % 360,
        is_outside=False,
        is_occluded=box.is_occluded,
        is_keyframe=False,
    )


def extent(box: CvatBox) -> Box:
    """The upright box around a box that is turned about its centre."""
    if not box.rotation:
        return box.box_xyxy
    left, top, right, bottom = box.box_xyxy
    angle = math.radians(box.rotation)
    cosine, sine = abs(math.cos(angle)), abs(math.sin(angle))
    half_width = ((right - left) * cosine + (bottom - top) * sine) / 2
    half_height = ((right - left) * sine + (bottom - top) * cosine) / 2
    x, y = (left + right) / 2, (top + bottom) / 2
    sides = (x - half_width, y - half_height, x + half_width, y + half_height)
    left, top, right, bottom = (round(side, 3) for side in sides)
    return left, top, right, bottom
