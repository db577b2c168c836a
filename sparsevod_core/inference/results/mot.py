"""MOTChallenge's det.txt, the input of trackers (Dendorfer et al., 2020, section 4)."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import Any

from sparsevod_core.inference.results.entries import rounded
from sparsevod_core.structures import Category, FrameDetections


class MotDetections:
    """A line `frame, -1, left, top, width, height, confidence, -1, -1, -1` for each detection.

    Frames and pixels count from 1, as the format requires. The id is -1, as detections have no
    track. The format has no column for the class; the last three are world coordinates.
    """

    def __init__(self, header: dict[str, Any], categories: Sequence[Category]) -> None:
        self._categories = categories

    def start(self) -> str:
        return ""

    def frame(self, found: FrameDetections, time_s: Fraction | None) -> str:
        number = found.index + 1
        return "".join(
            f"{number},-1,{x1 + 1:.3f},{y1 + 1:.3f},{x2 - x1:.3f},{y2 - y1:.3f},{score:.6f},"
            "-1,-1,-1\n"
            for (x1, y1, x2, y2), score, _ in rounded(found.detections, self._categories)
        )

    def end(self, *, truncated: bool) -> str:
        return ""
