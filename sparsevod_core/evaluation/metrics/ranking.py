"""The order in which detections are matched: class by class, highest score first."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import NamedTuple, TypeVar

import numpy as np
from jaxtyping import Int

from sparsevod_core.evaluation.metrics.detection_table import DetectionTable
from sparsevod_core.machine import num_processors

MAX_DETECTIONS = 100
"""COCO's limit for each class and frame."""

Result = TypeVar("Result")


class RankedClass(NamedTuple):
    """n detections of one class, sorted by frame, then by score.

    Attributes:
        rows: Row in the `DetectionTable`.
        images: Position of the frame.
        ranks: Number of better detections in the frame.
        places: Number of better detections in the data set. Equal scores are ordered by frame, then
            as in the table.
    """

    rows: Int[np.ndarray, " n"]
    images: Int[np.ndarray, " n"]
    ranks: Int[np.ndarray, " n"]
    places: Int[np.ndarray, " n"]

    def best(self, limit: int) -> RankedClass:
        """Return the `limit` best detections of each frame."""
        kept = self.ranks < limit
        if kept.all():
            return self
        counts = np.zeros(len(kept), dtype=np.int32)
        counts[self.places] = kept
        places = np.cumsum(counts, dtype=np.int32) - 1
        rows, images, ranks, old_places = (column[kept] for column in self)
        return RankedClass(rows, images, ranks, places[old_places])


def rank_class(
    table: DetectionTable, rows: Int[np.ndarray, " m"], limit: int = MAX_DETECTIONS
) -> RankedClass:
    """Rank the detections in some ascending rows, and keep the `limit` best of each frame."""
    by_score = np.argsort(-table.scores[rows], kind="stable")
    by_image = by_score[np.argsort(table.images[rows[by_score]], kind="stable")]
    places = np.empty(len(rows), dtype=np.int32)
    places[by_score] = np.arange(len(rows), dtype=np.int32)
    rows = rows[by_image].astype(np.int32)
    images = table.images[rows]
    ranks = count_within(images).astype(np.int32)
    return RankedClass(rows, images, ranks, places[by_image]).best(limit)


def rank_all(table: DetectionTable, num_classes: int) -> list[RankedClass]:
    """Rank all detections of every class; takes 16 bytes per detection."""
    by_class = np.argsort(table.categories, kind="stable").astype(np.int32)
    ends = np.searchsorted(table.categories[by_class], np.arange(num_classes + 1))
    rows = [by_class[start:end] for start, end in pairwise(ends)]
    return map_classes(lambda k: rank_class(table, rows[k], limit=sys.maxsize), range(num_classes))


def map_classes(function: Callable[[int], Result], classes: Iterable[int]) -> list[Result]:
    """Return the result for each class, computed in one thread per processor.

    Threads are enough: numpy releases Python's lock for most of the work.
    """
    with ThreadPoolExecutor(num_processors()) as pool:
        return list(pool.map(function, classes))


def count_within(groups: Int[np.ndarray, " n"]) -> Int[np.ndarray, " n"]:
    """Return 0, 1, 2 ... within each run of equal values."""
    starts = np.flatnonzero(np.diff(groups, prepend=groups[:1] - 1))
    return np.arange(len(groups)) - np.repeat(starts, np.diff(starts, append=len(groups)))
