"""JSON: one object for a video; JSON lines: the same as an object per line."""

from __future__ import annotations

import json
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

from sparsevod_core.inference.results.entries import rounded
from sparsevod_core.structures import Category, FrameDetections

SCHEMA = "sparsevod.detections/1"
LINES_SCHEMA = "sparsevod.detections.lines/1"


class DetectionsJson:
    """One object; `sparsevod detect --help` describes the keys.

    Args:
        header: Values known before the first frame.
        categories: The model's classes, `categories[label]`.
    """

    def __init__(self, header: dict[str, Any], categories: Sequence[Category]) -> None:
        self._header = header
        self._categories = categories
        self._num_frames = 0

    def start(self) -> str:
        header = _header_entry(SCHEMA, self._header, self._categories)
        return json.dumps(header, indent=2, allow_nan=False)[:-2] + ',\n  "frames": ['

    def frame(self, found: FrameDetections, time_s: Fraction | None) -> str:
        separator = ",\n    " if self._num_frames else "\n    "
        self._num_frames += 1
        entry = _frame_entry(found, time_s, self._categories)
        return separator + json.dumps(entry, allow_nan=False)

    def end(self, *, truncated: bool) -> list[str]:
        ending = {"num_frames": self._num_frames, "truncated": truncated}
        return ["\n  ],\n" + json.dumps(ending, indent=2)[2:] + "\n"]


class JsonLines:
    """A line with the header, a line for each frame, and a last one; keys as in the JSON."""

    def __init__(self, header: dict[str, Any], categories: Sequence[Category]) -> None:
        self._header = header
        self._categories = categories
        self._num_frames = 0

    def start(self) -> str:
        return _line(_header_entry(LINES_SCHEMA, self._header, self._categories))

    def frame(self, found: FrameDetections, time_s: Fraction | None) -> str:
        self._num_frames += 1
        return _line(_frame_entry(found, time_s, self._categories))

    def end(self, *, truncated: bool) -> list[str]:
        return [_line({"num_frames": self._num_frames, "truncated": truncated})]


def _header_entry(
    schema: str, header: dict[str, Any], categories: Sequence[Category]
) -> dict[str, Any]:
    classes = [{"id": category.id, "name": category.name} for category in categories]
    return {"schema": schema, **header, "categories": classes}


def _frame_entry(
    found: FrameDetections, time_s: Fraction | None, categories: Sequence[Category]
) -> dict[str, Any]:
    detections: list[dict[str, Any]] = []
    for box, score, category, track_id in rounded(found.detections, categories):
        entry = {"box_xyxy": list(box), "score": score}
        entry |= {"label": category.name, "class_id": category.id}
        if found.track_ids is not None:
            entry["track_id"] = track_id
        detections.append(entry)
    return {
        "index": found.index,
        "time_s": None if time_s is None else float(time_s),
        "detections": detections,
    }


def _line(entry: dict[str, Any]) -> str:
    return json.dumps(entry, allow_nan=False) + "\n"
