"""JSON lines: an object a line. The header, the frames, then how it ended."""

from __future__ import annotations

import json
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

from sparsevod_core.inference.results.entries import frame_entry, header_entry
from sparsevod_core.structures import Category, FrameDetections

SCHEMA = "sparsevod.detections.lines/1"


class JsonLines:
    """The keys are those of the JSON, which has the same in one object; see `DetectionsJson`."""

    def __init__(self, header: dict[str, Any], categories: Sequence[Category]) -> None:
        self._header = header
        self._categories = categories
        self._num_frames = 0

    def start(self) -> str:
        return _line(header_entry(SCHEMA, self._header, self._categories))

    def frame(self, found: FrameDetections, time_s: Fraction | None) -> str:
        self._num_frames += 1
        return _line(frame_entry(found, time_s, self._categories))

    def end(self, *, truncated: bool) -> str:
        return _line({"num_frames": self._num_frames, "truncated": truncated})


def _line(entry: dict[str, Any]) -> str:
    return json.dumps(entry, allow_nan=False) + "\n"
