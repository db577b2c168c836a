"""Findings of the checks, and the names of frames and boxes in them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from sparsevod_core.data.records import VideoSet

NAMED = 20
"""Maximum number of places that a finding names; all are counted."""

Severity = Literal["error", "problem", "remark"]
SEVERITIES: tuple[Severity, ...] = ("error", "problem", "remark")


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that the user of a dataset should know.

    Attributes:
        key: Identifier of the kind of finding, for programs.
        severity: `error`: training stops or cannot start. `problem`: probably a mistake that costs
            accuracy. `remark`: good to know.
        text: Description, to be followed by a colon and the count.
        count: Number of places.
        places: Names of the first places.
        advice: Consequence or remedy; may be empty.
    """

    key: str
    severity: Severity
    text: str
    count: int
    places: tuple[str, ...] = ()
    advice: str = ""


def find(
    key: str,
    severity: Severity,
    text: str,
    items: Sequence[Any] | np.ndarray,
    name: Callable[[Any], str] = str,
    advice: str = "",
) -> list[Finding]:
    """Return a finding that counts the items and names the first ones; nothing without items."""
    if not len(items):
        return []
    places = tuple(name(item) for item in items[:NAMED])
    return [Finding(key, severity, text, len(items), places, advice)]


def frame_label(videos: VideoSet, frame: int) -> str:
    """Return a frame's path relative to the root: `a/000012.JPEG` or `a.mp4 frame 12`."""
    path, index = videos.frame_path(frame)
    name = path.relative_to(videos.root).as_posix()
    return name if index is None else f"{name} frame {index}"


def box_label(videos: VideoSet, box: int) -> str:
    """Return the name of a box, e.g. `a/000012.JPEG 640x480: dog [12, 30, 40, 50]`."""
    tables = videos.tables
    frame = int(np.searchsorted(tables.box_starts, box, side="right")) - 1
    height, width = videos.frame_size(frame)
    corners = ", ".join(f"{value:g}" for value in tables.boxes_xyxy[box].tolist())
    name = videos.categories[tables.labels[box]].name
    return f"{frame_label(videos, frame)} {width}x{height}: {name} [{corners}]"
