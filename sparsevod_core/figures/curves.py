"""Figure of AP against the IoU threshold (the paper's Fig. 4), and the style of all curves."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sparsevod_core.figures.saving import SETTINGS
from sparsevod_core.figures.style import Color

DPI = 200
DIM: Color = (0.38, 0.4, 0.43)
GRID: Color = (0.88, 0.89, 0.9)
INK: Color = (0.12, 0.13, 0.15)
MAX_NAME = 32
# Okabe and Ito's colors, which color-blind readers can tell apart, and three more.
_LINES = (
    *("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000"),
    *("#8c8c8c", "#7a4a1e", "#5e3c99"),
)
_MARKERS = "osD^vP*X<>dp"
_MAX_INSIDE = 6  # results in a legend inside the axes


def draw_ap_by_iou(results: Mapping[str, Mapping[str, float]]) -> Figure:
    """Draw AP in percent against the IoU threshold, one line per result.

    Args:
        results: By name, the AP (0..1, NaN if undefined) by threshold such as "0.50".
    """
    with rc_context(SETTINGS):
        is_inside = len(results) <= _MAX_INSIDE
        size = (5.0 if is_inside else 7.2, 3.6)
        figure = Figure(figsize=size, dpi=DPI, layout="constrained", facecolor="white")
        axes = figure.add_subplot()
        for number, (name, by_iou) in enumerate(results.items()):
            axes.plot(
                [float(threshold) for threshold in by_iou],
                [100 * ap for ap in by_iou.values()],
                color=line_color(number),
                marker=marker(number),
                markersize=4.5,
                linewidth=1.6,
                label=shortened(name),
                clip_on=False,
                zorder=3,
            )
        axes.set(xlabel="IoU threshold", ylabel="AP (%)", xlim=(0.49, 0.96))
        axes.set_xticks(np.arange(0.50, 0.96, 0.05))
        aps = [100 * ap for one in results.values() for ap in one.values() if not math.isnan(ap)]
        top = 20 * min(math.ceil((max(aps, default=98.0) + 2) / 20), 5)
        axes.set(ylim=(0, top), yticks=np.arange(0, top + 1, 10 if top < 80 else 20))
        plain_axes(axes)
        # Inside: mostly the upper right, because AP is low at high thresholds.
        legend = (axes if is_inside else figure).legend(
            loc="best" if is_inside else "outside right center",
            fontsize=8,
            frameon=False,
            borderaxespad=0.4,
            labelcolor=INK,
        )
        for text in legend.get_texts():
            text.set_parse_math(False)  # a name may contain dollar signs
    return figure


def line_color(number: int) -> str:
    """Return the color of a result, the same in every figure."""
    return _LINES[number % len(_LINES)]


def marker(number: int) -> str:
    """Return the marker of a result, the same in every figure."""
    return _MARKERS[number % len(_MARKERS)]


def plain_axes(axes: Axes) -> None:
    """Draw a light grid and no frame."""
    axes.grid(color=GRID, linewidth=0.7)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set(color=DIM, linewidth=0.7)
    axes.tick_params(labelsize=8, colors=DIM, width=0.7, length=3)
    for label in (axes.xaxis.label, axes.yaxis.label):
        label.set(fontsize=9, color=INK)


def shortened(name: str, limit: int = MAX_NAME) -> str:
    """Shorten a name to at most `limit` characters."""
    return name if len(name) <= limit else f"{name[: limit - 1]}…"
