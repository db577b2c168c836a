"""The order in which detections take their boxes: class by class, the best first."""

from __future__ import annotations

import sys
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from jaxtyping import Int

from sparsevod_core.evaluation.metrics.detection_table import DetectionTable
from sparsevod_core.evaluation.metrics.processors import of_classes

MAX_DETECTIONS = 100
"""COCO's limit for each class and frame."""


class RankedClass(NamedTuple):
    """The detections of one class that count: n of them, by frame, in a frame the best first.

    Attributes:
        rows: where they stand in the table.
        images: the frame of each.
        ranks: how many in the frame come before it.
        places: how many of the whole set come before it; equal scores rank by frame, then as given.
    """

    rows: Int[np.ndarray, " n"]
    images: Int[np.ndarray, " n"]
    ranks: Int[np.ndarray, " n"]
    places: Int[np.ndarray, " n"]

    def best(self, limit: int) -> RankedClass:
        """The `limit` best of each frame."""
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
    """Rank the detections of one class, the `limit` best of each frame.

    Args:
        table: all detections.
        rows: those of the class, in the table's order.
        limit: how many of a frame count.
    """
    by_score = np.argsort(-table.scores[rows], kind="stable")
    by_image = by_score[np.argsort(table.images[rows[by_score]], kind="stable")]
    places = np.empty(len(rows), dtype=np.int32)
    places[by_score] = np.arange(len(rows), dtype=np.int32)
    rows = rows[by_image].astype(np.int32)
    images = table.images[rows]
    ranks = count_within(images).astype(np.int32)
    return RankedClass(rows, images, ranks, places[by_image]).best(limit)


def rank_all(table: DetectionTable, num_classes: int) -> list[RankedClass]:
    """Every class, all detections; 16 bytes for each."""
    by_class = np.argsort(table.categories, kind="stable").astype(np.int32)
    ends = np.searchsorted(table.categories[by_class], np.arange(num_classes + 1))
    rows = [by_class[start:end] for start, end in pairwise(ends)]
    return of_classes(lambda k: rank_class(table, rows[k], limit=sys.maxsize), range(num_classes))


def count_within(groups: Int[np.ndarray, " n"]) -> Int[np.ndarray, " n"]:
    """0, 1, 2 ... within each run of equal values."""
    starts = np.flatnonzero(np.diff(groups, prepend=groups[:1] - 1))
    return np.arange(len(groups)) - np.repeat(starts, np.diff(starts, append=len(groups)))
