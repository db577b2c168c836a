"""Counts of each class, and how its ids look."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from sparsevod_core.data.records import VideoSet
from sparsevod_core.prepare.checks.columns import NO_TRACK, BoxColumns, distinct
from sparsevod_core.prepare.checks.findings import Finding, Severity, first

FEW_BOXES = 10


@dataclass(frozen=True, slots=True)
class ClassCounts:
    """Of one class.

    Attributes:
        id: the user's own.
        name: of the class.
        boxes: crowds included.
        target_boxes: boxes on frames to train on.
        frames, videos, tracks: in which it appears; stills are no videos.
    """

    id: int
    name: str
    boxes: int
    target_boxes: int
    frames: int
    videos: int
    tracks: int


def check_classes(
    videos: VideoSet, columns: BoxColumns
) -> tuple[tuple[ClassCounts, ...], list[Finding]]:
    """Count each class, in the file's order, and find those that are missing."""
    tables = videos.tables
    num_classes = len(videos.categories)

    def per_class(chosen: np.ndarray) -> list[int]:
        return np.bincount(tables.labels[chosen], minlength=num_classes).tolist()

    in_video = np.flatnonzero(columns.videos < len(tables.video_names))
    tracked = np.flatnonzero(columns.tracks != NO_TRACK)
    rows = zip(
        per_class(np.arange(len(tables.labels))),
        per_class(tables.is_target[columns.frames]),
        per_class(distinct(columns.frames, tables.labels)),
        per_class(in_video[distinct(columns.videos[in_video], tables.labels[in_video])]),
        per_class(tracked[distinct(columns.tracks[tracked], tables.labels[tracked])]),
        strict=True,
    )
    counts = tuple(
        ClassCounts(category.id, category.name, *row)
        for category, row in zip(videos.categories, rows, strict=True)
    )
    return counts, list(_findings(counts))


def ids_in_words(classes: Sequence[ClassCounts]) -> str:
    """How the ids of the classes run, e.g. `1 to 30` or `0 to 9, without 4 and 7`."""
    ids = sorted(one.id for one in classes)
    low, high = ids[0], ids[-1]
    words = f"{low} to {high}" if high > low else str(low)
    absent = high - low + 1 - len(ids)
    if not absent:
        return words
    if absent > 6:
        return f"{words}, {absent:,} of them unused"
    known = set(ids)
    return f"{words}, without {', '.join(str(i) for i in range(low, high) if i not in known)}"


def _findings(counts: Sequence[ClassCounts]) -> Iterator[Finding]:
    ids = [one.id for one in counts]
    if min(ids) not in (0, 1) or max(ids) - min(ids) >= len(ids):
        words = ids_in_words(counts)
        text = f"classes whose ids are {words}"
        advice = "they come out again as they are"
        yield Finding("class_ids", "remark", text, len(ids), advice=advice)

    def of(key: str, severity: Severity, text: str, chosen: list[ClassCounts]) -> Iterator[Finding]:
        if chosen:
            names = (f"{one.name}: {one.target_boxes:,}" for one in chosen)
            yield Finding(key, severity, text, len(chosen), first(names))

    empty = [one for one in counts if not one.boxes]
    yield from of("empty_classes", "problem", "classes without a box", empty)
    unseen = [one for one in counts if one.boxes and not one.target_boxes]
    text = "classes without a box on a frame to train on"
    yield from of("untrained_classes", "problem", text, unseen)
    rare = [one for one in counts if 0 < one.target_boxes < FEW_BOXES]
    text = f"classes with fewer than {FEW_BOXES} boxes on frames to train on"
    yield from of("rare_classes", "remark", text, rare)
