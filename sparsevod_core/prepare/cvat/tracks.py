"""Interpolation of CVAT tracks, and the extent of rotated boxes.

Source: cvat/apps/dataset_manager/annotation.py, TrackManager.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import replace

from sparsevod_core.prepare.cvat.parser import CvatBox
from sparsevod_core.prepare.reading.annotated import Box, rotated_extent


def fill_track(
    boxes: Sequence[CvatBox], numbers: Sequence[int], offset: int = 0
) -> Iterator[tuple[CvatBox, int]]:
    """Yield the visible boxes of a track with their frames, interpolated where the file has gaps.

    Interpolated boxes have the line of the box before them and are not keyframes. `numbers` are the
    existing frames, ascending; no others are yielded, whatever frames the boxes are in. `offset` is
    subtracted from the frames of the boxes.
    """
    ordered = sorted(boxes, key=lambda box: box.frame)
    for place, box in enumerate(ordered):
        if box.is_outside:
            continue
        number = box.frame - offset
        first = bisect_right(numbers, number)
        if first and numbers[first - 1] == number:
            yield box, number
        following = ordered[place + 1] if place + 1 < len(ordered) else None
        end = len(numbers)
        if following is not None:
            end = bisect_left(numbers, following.frame - offset)
        for between in numbers[first:end]:
            fraction = 0.0
            if following is not None:
                fraction = (between - number) / (following.frame - box.frame)
            yield _interpolate(box, following or box, fraction), between


def _interpolate(box: CvatBox, following: CvatBox, fraction: float) -> CvatBox:
    sides = zip(box.box_xyxy, following.box_xyxy, strict=True)
    left, top, right, bottom = (first + (second - first) * fraction for first, second in sides)
    # The shorter way around the circle.
    turn = (following.rotation - box.rotation + 180) % 360 - 180
    return replace(
        box,
        box_xyxy=(left, top, right, bottom),
        rotation=(box.rotation + turn * fraction) % 360,
        is_keyframe=False,
    )


def extent(box: CvatBox) -> Box:
    """Return the axis-aligned bounding box of a box."""
    return rotated_extent(box.box_xyxy, box.rotation) if box.rotation else box.box_xyxy
