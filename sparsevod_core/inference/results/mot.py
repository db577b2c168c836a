"""MOTChallenge's text files of detections or tracks (Dendorfer et al., 2020, section 4)."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import Any

from sparsevod_core.inference.results.entries import rounded
from sparsevod_core.structures import Category, FrameDetections


class MotDetections:
    """A line `frame, id, left, top, width, height, confidence, -1, -1, -1` for each detection.

    Frames and pixels count from 1, as the format requires. Without tracking, this is a det.txt: all
    ids are -1. With tracking, it is the result of a tracker, in which every line has an id, so
    detections without one are left out. The format has no column for the class; the last three are
    world coordinates.
    """

    def __init__(self, header: dict[str, Any], categories: Sequence[Category]) -> None:
        self._categories = categories

    def start(self) -> str:
        return ""

    def frame(self, found: FrameDetections, time_s: Fraction | None) -> str:
        number, is_tracked = found.index + 1, found.track_ids is not None
        lines = ""
        entries = rounded(found.detections, self._categories)
        for (x1, y1, x2, y2), score, _, track_id in entries:
            if is_tracked and track_id is None:
                continue
            box = f"{x1 + 1:.3f},{y1 + 1:.3f},{x2 - x1:.3f},{y2 - y1:.3f}"
            lines += f"{number},{track_id or -1},{box},{score:.6f},-1,-1,-1\n"
        return lines

    def end(self, *, truncated: bool) -> list[str]:
        return []
