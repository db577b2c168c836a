"""What a check finds: a line for people each, with the first places by name."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice
from typing import Any, Literal

import numpy as np
from jaxtyping import Int

from sparsevod_core.data.records import VideoSet

NAMED = 20
"""As many places of a finding are named; all are counted."""

Severity = Literal["error", "problem", "remark"]
SEVERITIES: tuple[Severity, ...] = ("error", "problem", "remark")


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that the user of a data set should know.

    Attributes:
        key: names the kind of finding for programs, the same in every report.
        severity: `error`: training stops there, or cannot start. `problem`: hardly meant so, and it
            costs accuracy. `remark`: good to know.
        text: what it is, in words that a colon and the count may follow.
        count: how many places there are.
        places: the first of them.
        advice: what follows from it, or what to do; may be empty.
    """

    key: str
    severity: Severity
    text: str
    count: int
    places: tuple[str, ...] = ()
    advice: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Values that JSON has."""
        return {**dataclasses.asdict(self), "places": list(self.places)}


def first(places: Iterable[str]) -> tuple[str, ...]:
    """As many as a finding names."""
    return tuple(islice(places, NAMED))


def frame_label(videos: VideoSet, frame: int) -> str:
    """Where a frame lies, from the root on: `a/000012.JPEG` or `a.mp4 frame 12`."""
    path, index = videos.frame_path(frame)
    name = path.relative_to(videos.root).as_posix()
    return name if index is None else f"{name} frame {index}"


def name_frames(videos: VideoSet, frames: Int[np.ndarray, " n"]) -> tuple[str, ...]:
    """The first of some frames by name."""
    return first(frame_label(videos, frame) for frame in frames[:NAMED].tolist())


def name_boxes(videos: VideoSet, boxes: Int[np.ndarray, " n"]) -> tuple[str, ...]:
    """The first of some boxes, given by position: `a/000012.JPEG 640x480: dog [12, 30, 40, 50]`."""
    return first(_box_label(videos, box) for box in boxes[:NAMED].tolist())


def _box_label(videos: VideoSet, box: int) -> str:
    tables = videos.tables
    frame = int(np.searchsorted(tables.box_starts, box, side="right")) - 1
    height, width = videos.frame_size(frame)
    corners = ", ".join(f"{value:g}" for value in tables.boxes_xyxy[box].tolist())
    name = videos.categories[tables.labels[box]].name
    return f"{frame_label(videos, frame)} {width}x{height}: {name} [{corners}]"
