"""Every detection of a video as JSON, written as it is made."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any

from sparsevod_core.errors import DataError
from sparsevod_core.structures import Category, FrameDetections

SCHEMA = "sparsevod.detections/1"


class DetectionsJson:
    """A JSON file that grows frame by frame, so that an hour of video needs no more memory.

    Use it as a context manager: the file appears under its name when the block ends well, and not
    at all when it ends with an exception. `sparsevod detect --help` describes the keys.

    Args:
        path: the file; its folder is made if need be. `-` is stdout.
        header: what is known before the first frame.
        categories: `categories[k]` is the class of label k.

    Raises:
        DataError: the file cannot be written.
    """

    def __init__(self, path: Path, header: dict[str, Any], categories: Sequence[Category]) -> None:
        self.path = path
        self._categories = categories
        self._num_frames = 0
        self._partial = path.with_name(path.name + ".partial")
        try:
            if str(path) == "-":
                self._file = sys.stdout
            else:
                path.parent.mkdir(parents=True, exist_ok=True)
                self._file = self._partial.open("w", encoding="utf-8")
        except OSError as error:
            raise DataError(f"{path}: cannot write: {error.strerror}") from error
        known = {
            "schema": SCHEMA,
            **header,
            "categories": [{"id": one.id, "name": one.name} for one in categories],
        }
        self._file.write(json.dumps(known, indent=2, allow_nan=False)[:-2] + ',\n  "frames": [')

    def write(self, found: FrameDetections, time_s: Fraction | None) -> None:
        """Append a frame: one line."""
        entry = {
            "index": found.frame.index,
            "time_s": None if time_s is None else float(time_s),
            "detections": [
                {
                    "box_xyxy": [round(value, 3) for value in box],
                    "score": round(score, 6),
                    "label": self._categories[label].name,
                    "class_id": self._categories[label].id,
                }
                for box, score, label in zip(
                    found.boxes_xyxy.tolist(),
                    found.scores.tolist(),
                    found.labels.tolist(),
                    strict=True,
                )
            ],
        }
        separator = ",\n    " if self._num_frames else "\n    "
        self._file.write(separator + json.dumps(entry, allow_nan=False))
        self._num_frames += 1

    def finish(self, *, truncated: bool) -> None:
        """Say how it ended; to be called once, after the last frame."""
        ending = {"num_frames": self._num_frames, "truncated": truncated}
        self._file.write("\n  ],\n" + json.dumps(ending, indent=2)[2:] + "\n")

    def __enter__(self) -> DetectionsJson:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._file is sys.stdout:
            self._file.flush()
            return
        self._file.close()
        if kind is None:
            self._partial.replace(self.path)
        else:
            self._partial.unlink(missing_ok=True)
