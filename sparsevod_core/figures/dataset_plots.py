"""Single plots of the dataset page."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from jaxtyping import Float, Int
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullLocator

from sparsevod_core.figures.curves import DIM, GRID

BAR = "#4c78a8"
HEAT = LinearSegmentedColormap.from_list("heat", ["#ffffff", "#9ecae1", "#3182bd", "#08306b"])


@dataclass(frozen=True, slots=True)
class Bars:
    """A histogram: counts between edges."""

    edges: Float[np.ndarray, " bins_plus_1"]
    counts: Int[np.ndarray, " bins"]


def draw_bars(
    axes: Axes,
    bars: Bars,
    what: str,
    counted: str,
    color: Callable[[float], str] = lambda center: BAR,
) -> None:
    """Draw a histogram, with a logarithmic axis if its bins grow.

    Args:
        axes: Where to draw.
        bars: Edges and counts.
        what: Label of the x axis.
        counted: Label of the y axis.
        color: Returns the color of the bar with this center.
    """
    edges, counts = bars.edges, bars.counts
    if not counts.any():
        axes.set(xticks=[], yticks=[], xlabel=what)
        remark(axes, f"no {counted}")
        return
    colors = [color((low + high) / 2) for low, high in pairwise(edges.tolist())]
    is_log = not np.allclose(np.diff(edges), edges[1] - edges[0])
    gap = 0.0 if is_log else 0.06 * (edges[1] - edges[0])
    axes.bar(edges[:-1] + gap, counts, np.diff(edges) - 2 * gap, align="edge", color=colors)
    axes.set(xlabel=what, ylabel=counted)
    axes.grid(False, axis="x")
    if is_log:
        log_axis(axes, edges, what)
    else:
        axes.set_xlim(edges[0] - 0.5 * (len(counts) == 1), edges[-1] + 0.5 * (len(counts) == 1))
        axes.xaxis.set_major_locator(
            MaxNLocator(6, integer=edges[-1] > 1, min_n_ticks=1, steps=[1, 2, 5, 10])
        )
    axes.yaxis.set_major_locator(MaxNLocator(4, integer=True, min_n_ticks=1))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: _thousands(value)))


def draw_centers(axes: Axes, centers: Int[np.ndarray, "rows columns"], frame_aspect: float) -> None:
    """Draw box centers per cell as a heat map with the aspect ratio of the frame."""
    axes.grid(False)
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set(visible=True, color=GRID)
    if not centers.any():
        remark(axes, "no boxes")
        return
    # The square root makes rare places visible.
    axes.imshow(np.sqrt(centers), cmap=HEAT, vmin=0, extent=(0, frame_aspect, 1, 0))
    axes.set_anchor("NW")


def log_axis(axes: Axes, edges: np.ndarray, what: str) -> None:
    """Set a logarithmic x axis with powers of 2 as ticks."""
    axes.set_xscale("log", base=2)
    axes.set_xlim(edges[0], edges[-1])
    axes.set_xlabel(what)
    first = edges[0] + 0.5 * (edges[0] % 1 == 0.5)  # bins of integers start at a half
    doublings = np.arange(np.ceil(np.log2(first)), np.floor(np.log2(edges[-1])) + 1)
    axes.set_xticks(2.0 ** doublings[:: 1 + len(doublings) // 8])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: _fraction(value)))


def _fraction(value: float) -> str:
    """Format as 1/4, 8 or 2048."""
    return f"1/{1 / value:.0f}" if value < 1 else f"{value:.0f}"


def _thousands(value: float) -> str:
    """Format as 800, 2.4k, 12k or 1.5M."""
    for size, letter in ((1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:g}{letter}"
    return f"{value:g}"


def remark(axes: Axes, text: str) -> None:
    """Write a text in empty axes."""
    axes.text(
        0.5, 0.5, text, transform=axes.transAxes, ha="center", va="center", fontsize=9, color=DIM
    )
