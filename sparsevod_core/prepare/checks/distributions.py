"""Histograms whose bins suit their values, of one range in every report where that is fixed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int, Num

SIDE_EDGES_PX = 2.0 ** np.arange(1, 11.5, 0.5)
"""Of a box's side (the root of its area): 2 to 2048 pixels."""

ASPECT_EDGES = 2.0 ** np.arange(-4, 4.25, 0.25)
"""Of width over height: 1:16 to 16:1."""

MOTION_EDGES = np.linspace(0, 1, 51)
"""Of motion IoU: 0.7 and 0.9, where speeds part, are edges."""

CENTRE_CELLS = 32
_MAX_BINS = 32
_LOG_RANGE = 20  # from smallest to largest; wider ranges read better on a logarithmic axis


@dataclass(frozen=True, slots=True)
class Histogram:
    """Counts between edges; the last bin has its upper edge."""

    edges: Float[np.ndarray, " bins_plus_1"]
    counts: Int[np.ndarray, " bins"]


def histogram(values: Num[np.ndarray, " n"], edges: Float[np.ndarray, " e"]) -> Histogram:
    """Counts of values; those outside the edges go to the first and the last bin."""
    counts, _ = np.histogram(values.clip(edges[0], edges[-1]), edges)
    return Histogram(edges, counts)


def histogram_of_counts(values: Int[np.ndarray, " n"]) -> Histogram:
    """Of whole numbers from 0 up, a bin for each where these are few."""
    if not len(values):
        return Histogram(np.array([-0.5, 0.5]), np.zeros(1, np.int64))
    low, high = int(values.min()), int(values.max())
    if high - low < _MAX_BINS:
        edges = np.arange(low, high + 2) - 0.5
    elif low > 0 and high > _LOG_RANGE * low:
        rounded = np.round(np.geomspace(low, high + 1, _MAX_BINS + 1))
        edges = np.unique(rounded) - 0.5
    else:
        step = -(-(high + 1 - low) // _MAX_BINS)
        edges = np.arange(low, high + step + 1, step) - 0.5
    return Histogram(edges, np.histogram(values, edges)[0])


def spread(values: Num[np.ndarray, " n"]) -> tuple[float, float, float] | None:
    """Smallest, median and largest; None of nothing."""
    if not len(values):
        return None
    return float(values.min()), float(np.median(values)), float(values.max())
