"""The paper's Fig. 4 and Fig. 5, drawn from the content of the tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sparsevod_core.figures.curves import DPI, INK, draw_ap_by_iou, line_color, marker, plain_axes
from sparsevod_core.figures.saving import SETTINGS, save_figure
from sparsevod_core.reproduce.grid import TROI, TROI_14

Rows = Sequence[Mapping[str, Any]]


def write_figures(summary: Mapping[str, Any], folder: Path) -> list[Path]:
    """Draw the figures whose tables have results, as PNG and PDF, and return the files.

    Both show the systems of Table 1 if it was made, else the rows of Tables 2 and 5.
    """
    tables = {(table["number"], table["figure"]): table["rows"] for table in summary["tables"]}
    systems = _measured(tables.get((1, None), ()), "AP")
    figures = {}
    rows = systems or _measured(tables.get((2, None), ()), "AP")
    if rows and rows[0]["AP_by_iou"]:
        figures["fig4_ap_by_iou"] = draw_fig_4(rows)
    supports = _with_speed(tables.get((1, 5), ()) if systems else tables.get((5, None), ()))
    if supports:
        names = dict.fromkeys(row["cell"] for row in supports)
        curves = {name: [row for row in supports if row["cell"] == name] for name in names}
        others = systems or tables.get((2, None), ())[:1]
        points = [row for row in _with_speed(others) if row["cell"] not in curves]
        figures["fig5_ap50_by_fps"] = draw_fig_5(
            list(curves.values()), points, [row["cell"] for row in systems]
        )
    files = [folder / f"{name}.{kind}" for name in figures for kind in ("png", "pdf")]
    for file in files:
        save_figure(figures[file.stem], file)
    return files


def draw_fig_4(rows: list[Mapping[str, Any]]) -> Figure:
    """Draw mean AP against the IoU threshold, with a band for the range of the seeds."""
    curves = {row["label"]: row["AP_by_iou"] for row in rows}
    means = {
        label: {iou: (of["mean"] if of else float("nan")) / 100 for iou, of in curve.items()}
        for label, curve in curves.items()
    }
    figure = draw_ap_by_iou(means)
    for number, curve in enumerate(curves.values()):
        known = {float(iou): of for iou, of in curve.items() if of}
        figure.axes[0].fill_between(
            list(known),
            [of["min"] for of in known.values()],
            [of["max"] for of in known.values()],
            color=line_color(number),
            alpha=0.18,
            linewidth=0,
        )
    return figure


def draw_fig_5(curves: Sequence[Rows], points: Rows, order: Sequence[str] = ()) -> Figure:
    """Draw AP50 against frames per second, measured and as the paper reports them.

    The paper used other data and hardware, so the two have separate axes.

    Args:
        curves: For each model with several numbers of support frames, its rows.
        points: Rows of the other models.
        order: Names of all their cells, in the order that gives the colors.
    """
    with rc_context(SETTINGS):
        figure = Figure(figsize=(8.4, 4.4), dpi=DPI, layout="constrained", facecolor="white")
        here, there = figure.subplots(1, 2)
        drawn = [*curves, *([row] for row in points)]
        colors = order or [rows[0]["cell"] for rows in drawn]
        for position, rows in enumerate(drawn):
            is_curve = position < len(curves)
            number = colors.index(rows[0]["cell"])
            for axes, values in (
                (here, [(row["fps"], row["AP50"]["mean"]) for row in rows]),
                (there, [(row["paper"]["fps"], row["paper"]["AP50"]) for row in rows]),
            ):
                known = [(*xy, _count(row)) for xy, row in zip(values, rows, strict=True) if xy[0]]
                _draw_points(axes, number, known, _name(rows, is_curve), is_curve)
            for row in rows:
                low, high = row["AP50"]["min"], row["AP50"]["max"]
                here.vlines(row["fps"], low, high, color=INK, linewidth=0.8, zorder=2)
        if all(row["cell"] != TROI.name for rows in curves for row in rows):
            known = [(TROI_14.fps or 0.0, TROI_14.AP50 or 0.0, "")]
            _draw_points(there, len(colors), known, "TROI, 14 support frames", is_curve=False)
        for axes, title in ((here, "Measured"), (there, "The paper: ImageNet VID, A100")):
            axes.set(xlabel="frames per second", ylabel="AP50 (%)")
            axes.set_title(title, fontsize=9, color=INK)
            axes.margins(0.15)
            plain_axes(axes)
        lines = {line.get_label(): line for line in [*here.lines, *there.lines]}
        figure.legend(
            handles=list(lines.values()),
            loc="outside lower center",
            ncols=3,
            fontsize=8,
            frameon=False,
            labelcolor=INK,
        )
    return figure


Point = tuple[float, float, str]


def _draw_points(
    axes: Axes, number: int, points: Sequence[Point], name: str, is_curve: bool
) -> None:
    if not points:
        return
    fps, ap50, _ = zip(*points, strict=True)
    color, shape = line_color(number), marker(number)
    line = "-" if is_curve else "none"
    axes.plot(
        fps,
        ap50,
        line,
        label=name,
        color=color,
        marker=shape,
        markersize=5,
        linewidth=1.4,
        zorder=3,
    )
    for x, y, label in points if is_curve else ():
        axes.annotate(
            label, (x, y), xytext=(5, 5), textcoords="offset points", fontsize=8, color=INK
        )


def _measured(rows: Rows, metric: str) -> list[Mapping[str, Any]]:
    return [row for row in rows if row[metric]]


def _with_speed(rows: Rows) -> list[Mapping[str, Any]]:
    return [row for row in _measured(rows, "AP50") if row["fps"]]


def _name(rows: Rows, is_curve: bool) -> str:
    """Return the text of a legend: of a curve, the label without its number of support frames."""
    if not is_curve:
        return str(rows[0]["label"])
    model, separator, _ = rows[0]["label"].partition(", ")
    return f"{model if separator else 'SparseVOD'}, by support frames"


def _count(row: Mapping[str, Any]) -> str:
    """Return the number of support frames in a label such as "TROI, 2 supports"."""
    return str(row["label"].removesuffix(" supports").rpartition(" ")[2])
