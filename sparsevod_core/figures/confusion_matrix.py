"""Figure of a confusion matrix: one row per true class, one column per predicted class."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from jaxtyping import Int
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from sparsevod_core.figures.curves import DIM, DPI, GRID, INK, shortened
from sparsevod_core.figures.saving import SETTINGS
from sparsevod_core.figures.stage_layout import text_width

MARGIN_IN, GAP_IN, BAR_IN = 0.12, 0.07, 0.13
TITLE_IN, AXIS_IN = 0.45, 0.22
MATRIX_IN, MIN_CELL_IN, MAX_CELL_IN = 7.0, 0.16, 0.75
NAME_PT, COUNT_PT = 8.0, 7.5
FULL_COUNT_PT, MIN_COUNT_PT = 6.0, 3.6  # smaller counts are abbreviated, then omitted
MAX_NAME = 24
_GAMMA = 0.6  # makes rare confusions, the interesting ones, easier to see
_SHADES = LinearSegmentedColormap.from_list("shades", ["#ffffff", "#9ecae1", "#2171b5", "#08306b"])


def draw_confusion(
    matrix: Int[np.ndarray, "K_plus_1 K_plus_1"], class_names: Sequence[str], *, title: str = ""
) -> Figure:
    """Draw the fraction of each row as a shade and each count as a number in its cell.

    Args:
        matrix: True class by predicted class. The last column has the missed boxes, the last row
            the false alarms; a gap separates them from the classes.
        class_names: Names of the K classes.
        title: Title of one or more lines.
    """
    count = len(matrix)
    cell = float(np.clip(MATRIX_IN / count, MIN_CELL_IN, MAX_CELL_IN))
    names_pt = min(NAME_PT, cell * 72 * 0.8)
    names = [shortened(name, MAX_NAME) for name in class_names]
    rows, columns = [*names, "(no object)"], [*names, "missed"]
    side = AXIS_IN + max(text_width(name, names_pt) for name in (*rows, *columns)) + 0.1
    extent = cell * count + GAP_IN
    left, bottom = MARGIN_IN + side, MARGIN_IN + side
    width = left + extent + 2 * BAR_IN + 0.55
    lines = title.splitlines()
    top = TITLE_IN + 0.16 * max(len(lines) - 1, 0)
    height = bottom + extent + top
    with rc_context(SETTINGS):
        widest = max([width, *(text_width(line, 9) + 2 * MARGIN_IN for line in lines)])
        figure = Figure(figsize=(widest, height), dpi=DPI, facecolor="white")
        for number, line in enumerate(lines):
            y = 1 - (0.2 + 0.16 * number) / height
            figure.text(MARGIN_IN / widest, y, line, fontsize=9, color=INK, parse_math=False)
        axes = figure.add_axes((left / widest, bottom / height, extent / widest, extent / height))
        axes.set(xlim=(0, extent), ylim=(extent, 0))
        starts = np.arange(count) * cell + GAP_IN * (np.arange(count) == count - 1)
        _draw_cells(axes, matrix, starts, cell)
        axes.set_xticks(starts + cell / 2, columns, rotation=90, parse_math=False)
        axes.set_yticks(starts + cell / 2, rows, parse_math=False)
        axes.tick_params(length=0, pad=3, labelsize=names_pt, labelcolor=INK)
        axes.spines[:].set_visible(False)
        style: dict[str, Any] = {"fontsize": 9, "color": DIM}
        x, y = (left + extent / 2) / widest, (bottom + extent / 2) / height
        figure.text(x, 0.1 / height, "predicted class", ha="center", **style)
        figure.text(0.1 / widest, y, "true class", va="center", rotation=90, **style)
        bar_in = min(extent, 2.0)
        corner = (left + extent + BAR_IN) / widest, (bottom + extent - bar_in) / height
        _draw_scale(figure.add_axes((*corner, BAR_IN / widest, bar_in / height)))
    return figure


def _draw_cells(axes: Axes, matrix: np.ndarray, starts: np.ndarray, cell: float) -> None:
    """Draw a square per entry, in inches, with its count if that fits."""
    fractions = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    write, texts_pt = _count_format(matrix, cell)
    last = len(matrix) - 1
    for row, column in np.ndindex(*matrix.shape):
        if row == column == last:
            continue  # no object predicted as no object: not counted
        fraction = float(fractions[row, column])
        x, y = float(starts[column]), float(starts[row])
        style: dict[str, Any] = {"facecolor": _shade(fraction), "edgecolor": GRID, "linewidth": 0.5}
        axes.add_patch(Rectangle((x, y), cell, cell, clip_on=False, **style))
        if matrix[row, column] and texts_pt >= MIN_COUNT_PT:
            color = "white" if fraction > 0.4 else INK
            style = {"fontsize": texts_pt, "color": color, "ha": "center", "va": "center_baseline"}
            axes.text(x + cell / 2, y + cell / 2, write(int(matrix[row, column])), **style)


def _shade(fraction: Any) -> Any:
    """Return the RGBA color of a fraction, or of an array of fractions, 0..1."""
    return _SHADES(fraction**_GAMMA)


def _draw_scale(axes: Axes) -> None:
    """Draw the color bar."""
    shades = _shade(np.linspace(1, 0, 256)[:, None])
    axes.imshow(shades, aspect="auto", extent=(0, 1, 0, 1))
    axes.set(xticks=[], yticks=[0, 0.1, 0.5, 1], yticklabels=["0", "10", "50", "100 %"])
    axes.yaxis.tick_right()
    axes.tick_params(labelsize=7, colors=DIM, length=2)
    axes.spines[:].set(color=GRID)


def _count_format(matrix: np.ndarray, cell_in: float) -> tuple[Callable[[int], str], float]:
    """Return how to write counts, in full or abbreviated, and the text size that fits all cells."""
    size = 0.0
    for write in ("{:,}".format, _abbreviated):
        widest = max(text_width(write(count), 1.0) for count in np.unique(matrix).tolist())
        size = min(COUNT_PT, 0.88 * cell_in / widest, 0.6 * cell_in * 72)
        if size > FULL_COUNT_PT:
            break
    return write, size


def _abbreviated(count: int) -> str:
    """Write a count in at most four characters: 999, 1.2k, 35k, 1.2M."""
    for limit, divisor, suffix in ((1000, 1, ""), (10**6, 1000, "k"), (10**9, 10**6, "M")):
        if count < 0.9995 * limit:
            number = count / divisor
            return f"{number:.1f}{suffix}" if suffix and number < 9.95 else f"{number:.0f}{suffix}"
    return f"{count / 10**9:.1f}G"
