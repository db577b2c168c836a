"""Every detection of a video as one JSON object, a line a frame."""

from __future__ import annotations

import json
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

from sparsevod_core.inference.results.entries import frame_entry, header_entry
from sparsevod_core.structures import Category, FrameDetections

SCHEMA = "sparsevod.detections/1"


class DetectionsJson:
    """`sparsevod detect --help` describes the keys.

    Args:
        header: what is known before the first frame.
        categories: `categories[k]` is the class of label k.
    """

    def __init__(self, header: dict[str, Any], categories: Sequence[Category]) -> None:
        self._header = header
        self._categories = categories
        self._num_frames = 0

    def start(self) -> str:
        known = header_entry(SCHEMA, self._header, self._categories)
        return json.dumps(known, indent=2, allow_nan=False)[:-2] + ',\n  "frames": ['

    def frame(self, found: FrameDetections, time_s: Fraction | None) -> str:
        separator = ",\n    " if self._num_frames else "\n    "
        self._num_frames += 1
        entry = frame_entry(found, time_s, self._categories)
        return separator + json.dumps(entry, allow_nan=False)

    def end(self, *, truncated: bool) -> str:
        ending = {"num_frames": self._num_frames, "truncated": truncated}
        return "\n  ],\n" + json.dumps(ending, indent=2)[2:] + "\n"
