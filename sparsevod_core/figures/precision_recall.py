"""Figure of precision against recall, by class or by result."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sparsevod_core.figures.curves import DIM, DPI, INK, line_color, plain_axes, shortened
from sparsevod_core.figures.saving import SETTINGS
from sparsevod_core.figures.stage_layout import text_width
from sparsevod_core.figures.style import Color, class_color

PANEL_IN, GAP_IN = 3.4, 0.35
LEFT_IN, BOTTOM_IN, TOP_IN, MARGIN_IN = 0.55, 0.5, 0.6, 0.05
SWATCH_IN, COLUMN_GAP_IN = 0.3, 0.2
LEGEND_ROWS = 34


@dataclass(frozen=True, slots=True)
class PrecisionRecallPanel:
    """Curves of K classes or results at one IoU threshold; precision, recall and AP are 0..1.

    Attributes:
        iou: IoU threshold.
        recall: Recall of the R points of each curve, ascending.
        precision: Precision at these points; NaN for a class without boxes.
        ap: AP of each curve; NaN for a class without boxes.
    """

    iou: float
    recall: Float[np.ndarray, " R"]
    precision: Float[np.ndarray, "R K"]
    ap: Float[np.ndarray, " K"]


def draw_precision_recall(
    panels: Sequence[PrecisionRecallPanel],
    names: Sequence[str],
    *,
    are_classes: bool = True,
    title: str = "",
) -> Figure:
    """Draw precision against recall.

    Args:
        panels: Panels from left to right. The legend is ordered by AP in the first.
        names: Names of the classes or results. Those without AP are omitted.
        are_classes: If True, draw thin lines in the colors of the classes, and their mean as a
            thick line. If False, draw lines of the same width in the colors of the results.
        title: Title of one line.
    """
    aps = np.stack([panel.ap for panel in panels])
    shown = np.flatnonzero(~np.isnan(aps[0]))
    shown = shown[np.argsort(-aps[0, shown], kind="stable")]
    lines = [
        _Line(names[k], class_color(k), 0.9, aps[:, k], [one.precision[:, k] for one in panels])
        if are_classes
        else _Line(names[k], line_color(k), 1.6, aps[:, k], [one.precision[:, k] for one in panels])
        for k in shown.tolist()
    ]
    if are_classes and len(lines) > 1:
        means = [one.precision[:, shown].mean(axis=1) for one in panels]
        lines.insert(0, _Line("mean", INK, 2.4, aps[:, shown].mean(axis=1), means))
    legend = _Legend(lines, [f"AP{100 * panel.iou:.0f}" for panel in panels])
    width = LEFT_IN + len(panels) * (PANEL_IN + GAP_IN) + legend.width_in + MARGIN_IN
    height = BOTTOM_IN + PANEL_IN + TOP_IN
    with rc_context(SETTINGS):
        figure = Figure(figsize=(width, height), dpi=DPI, facecolor="white")
        top = 1 - 0.2 / height
        style: dict[str, Any] = {"fontsize": 9, "color": INK, "parse_math": False}
        figure.text(LEFT_IN / width, top, shortened(title, 100), **style)
        for number, panel in enumerate(panels):
            left = LEFT_IN + number * (PANEL_IN + GAP_IN)
            axes = figure.add_axes(
                (left / width, BOTTOM_IN / height, PANEL_IN / width, PANEL_IN / height)
            )
            for line in lines[::-1]:  # best one on top
                curve = line.precision[number]
                axes.plot(panel.recall, curve, color=line.color, linewidth=line.width_pt)
            ticks = np.linspace(0, 1, 6)
            axes.set(xlabel="recall", xlim=(0, 1.01), ylim=(0, 1.01), xticks=ticks, yticks=ticks)
            axes.set_title(f"IoU ≥ {panel.iou:.2f}", fontsize=9, color=INK)
            if number == 0:
                axes.set_ylabel("precision")
            plain_axes(axes)
        left = LEFT_IN + len(panels) * (PANEL_IN + GAP_IN)
        legend.draw(
            figure.add_axes(
                (left / width, BOTTOM_IN / height, legend.width_in / width, PANEL_IN / height)
            )
        )
    return figure


@dataclass(frozen=True, slots=True)
class _Line:
    """A line, with its AP and its precision in every panel."""

    name: str
    color: Color | str
    width_pt: float
    ap: Float[np.ndarray, " panels"]
    precision: list[np.ndarray]


class _Legend:
    """Color, name and AP of every line beside the curves, in several columns if necessary."""

    def __init__(self, lines: Sequence[_Line], heads: Sequence[str]) -> None:
        self._lines, self._heads = lines, heads
        num_columns = max(-(-len(lines) // LEGEND_ROWS), 1)
        self._num_rows = max(-(-len(lines) // num_columns), 1)
        self._row_in = min(PANEL_IN / (self._num_rows + 1), 0.17)
        self._size_pt = min(7.5, self._row_in * 72 * 0.82)
        self._names = [shortened(line.name, 24) for line in lines]
        name_in = max((text_width(name, self._size_pt) for name in self._names), default=0.0)
        self._number_in = text_width("  100.0", self._size_pt)
        self._column_in = SWATCH_IN + name_in + self._number_in * len(heads) + COLUMN_GAP_IN
        self.width_in = self._column_in * num_columns

    def draw(self, axes: Axes) -> None:
        """Fill axes that are `width_in` wide and as high as a panel."""
        axes.axis("off")
        axes.set(xlim=(0, self.width_in), ylim=(PANEL_IN, 0))
        for number, (line, name) in enumerate(zip(self._lines, self._names, strict=True)):
            column, row = divmod(number, self._num_rows)
            left, y = column * self._column_in, (row + 1.5) * self._row_in
            swatch = [left, left + 0.7 * SWATCH_IN]
            axes.plot(swatch, [y, y], color=line.color, linewidth=max(line.width_pt, 1.8))
            self._text(axes, left + SWATCH_IN, y, name, INK)
            x = left + self._column_in - COLUMN_GAP_IN - self._number_in * len(self._heads)
            for head, ap in zip(self._heads, line.ap.tolist(), strict=True):
                x += self._number_in
                self._text(axes, x, y, f"{100 * ap:.1f}", INK, ha="right")
                if row == 0:
                    self._text(axes, x, y - self._row_in, head, DIM, ha="right")

    def _text(
        self, axes: Axes, x: float, y: float, text: str, color: Color, ha: str = "left"
    ) -> None:
        style: dict[str, Any] = {
            "fontsize": self._size_pt,
            "color": color,
            "va": "center_baseline",
            "ha": ha,
        }
        axes.text(x, y, text, parse_math=False, **style)  # a name may contain dollar signs
