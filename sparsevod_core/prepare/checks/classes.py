"""Class counts and class ids."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from sparsevod_core.data.records import VideoSet
from sparsevod_core.prepare.checks.findings import Finding, find
from sparsevod_core.prepare.checks.statistics import BoxColumns

FEW_BOXES = 10


@dataclass(frozen=True, slots=True)
class ClassCounts:
    """Counts of one class.

    Attributes:
        id: Id in the annotations.
        name: Name of the class.
        boxes: Number of boxes, including crowds.
        target_boxes: Number of boxes on frames to train on.
        frames, videos, tracks: Numbers of those in which the class appears.
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
    """Count each class, in the file's order, and find missing and rare ones."""
    tables = videos.tables
    num_classes = len(videos.categories)

    def per_class(labels: np.ndarray) -> list[int]:
        return np.bincount(labels, minlength=num_classes).tolist()

    def per_class_once(groups: np.ndarray) -> list[int]:
        """Count each class once in each group; boxes of a negative group do not count."""
        keys = np.sort(groups * num_classes + tables.labels, kind="stable")
        is_new = np.diff(keys, prepend=-1) > 0  # faster than the hash table of np.unique
        return per_class(keys[is_new & (keys >= 0)] % num_classes)

    rows = zip(
        videos.categories,
        per_class(tables.labels),
        per_class(tables.labels[tables.is_target[columns.frames]]),
        per_class_once(columns.frames),
        per_class_once(np.where(columns.videos < len(tables.video_names), columns.videos, -1)),
        per_class_once(columns.tracks),
        strict=True,
    )
    counts = tuple(ClassCounts(category.id, category.name, *row) for category, *row in rows)
    return counts, list(_findings(counts))


def ids_in_words(classes: Sequence[ClassCounts]) -> str:
    """Describe the range of class ids, e.g. `1 to 30` or `0 to 9, without 4, 7`."""
    ids = sorted(one.id for one in classes)
    low, high = ids[0], ids[-1]
    words = f"{low} to {high}" if high > low else str(low)
    num_unused = high - low + 1 - len(ids)
    if not num_unused:
        return words
    if num_unused > 6:
        return f"{words}, {num_unused:,} of them unused"
    return f"{words}, without {', '.join(map(str, sorted({*range(low, high)} - {*ids})))}"


def _findings(counts: Sequence[ClassCounts]) -> Iterator[Finding]:
    def named(one: ClassCounts) -> str:
        return f"{one.name}: {one.target_boxes:,}"

    ids = [one.id for one in counts]
    if min(ids) not in (0, 1) or max(ids) - min(ids) >= len(ids):
        text = f"classes with unusual ids ({ids_in_words(counts)})"
        yield Finding("class_ids", "remark", text, len(ids), advice="results use the same ids")
    empty = [one for one in counts if not one.boxes]
    yield from find("empty_classes", "problem", "classes without a box", empty, named)
    untrained = [one for one in counts if one.boxes and not one.target_boxes]
    text = "classes without a box on a frame to train on"
    yield from find("untrained_classes", "problem", text, untrained, named)
    rare = [one for one in counts if 0 < one.target_boxes < FEW_BOXES]
    text = f"classes with fewer than {FEW_BOXES} boxes on frames to train on"
    yield from find("rare_classes", "remark", text, rare, named)
