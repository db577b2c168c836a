"""The paper's Fig. 4 and Fig. 5, drawn from the content of the tables."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sparsevod_core.figures.curves import DPI, INK, draw_ap_by_iou, line_color, plain_axes
from sparsevod_core.figures.saving import SETTINGS, save_figure
from sparsevod_core.reproduce.grid import TROI


def write_figures(summary: Mapping[str, Any], folder: Path) -> list[Path]:
    """Draw the figures whose tables have results, as PNG and PDF, and return the files."""
    tables = {table["number"]: table["rows"] for table in summary["tables"]}
    figures = {}
    if (rows := _measured(tables.get(2, ()), "AP")) and rows[0]["AP_by_iou"]:
        figures["fig4_ap_by_iou"] = draw_fig_4(rows)
    supports = [row for row in _measured(tables.get(5, ()), "AP50") if row["fps"]]
    if supports:
        baseline = [row for row in _measured(tables.get(2, ())[:1], "AP50") if row["fps"]]
        figures["fig5_ap50_by_fps"] = draw_fig_5(supports, baseline)
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


def draw_fig_5(supports: list[Mapping[str, Any]], baseline: list[Mapping[str, Any]]) -> Figure:
    """Draw AP50 against frames per second, measured and as the paper reports them.

    The paper used other data and hardware, so the two have separate axes.

    Args:
        supports: Rows of the full model.
        baseline: Row of the frame baseline, if measured.
    """
    with rc_context(SETTINGS):
        figure = Figure(figsize=(7.2, 3.4), dpi=DPI, layout="constrained", facecolor="white")
        here, there = figure.subplots(1, 2)
        _points(
            here,
            "Measured",
            [(row["fps"], row["AP50"]["mean"], _count(row)) for row in supports],
            [(row["fps"], row["AP50"]["mean"], "") for row in baseline],
        )
        for row in [*supports, *baseline]:
            low, high = row["AP50"]["min"], row["AP50"]["max"]
            here.vlines(row["fps"], low, high, color=INK, linewidth=0.8, zorder=2)
        stated = [
            (row["paper"]["fps"], row["paper"]["AP50"], _count(row))
            for row in supports
            if row["paper"]["fps"]
        ]
        _points(
            there,
            "The paper: ImageNet VID, A100",
            stated,
            [(row["paper"]["fps"], row["paper"]["AP50"], "") for row in baseline],
        )
        there.plot(TROI.fps, TROI.AP50, "^", color=line_color(2), label="TROI, 14 support frames")
        for axes in (here, there):
            axes.legend(fontsize=8, frameon=False, loc="best", labelcolor=INK)
    return figure


Point = tuple[float, float, str]


def _points(axes: Axes, title: str, supports: list[Point], baseline: list[Point]) -> None:
    for number, (name, points) in enumerate(
        {"SparseVOD, by support frames": supports, "frame baseline": baseline}.items()
    ):
        if not points:
            continue
        fps, ap50, _ = zip(*points, strict=True)
        axes.plot(
            fps,
            ap50,
            label=name,
            color=line_color(number),
            marker="os"[number],
            markersize=5,
            linewidth=1.4,
            zorder=3,
        )
        for x, y, label in points:
            axes.annotate(
                label, (x, y), xytext=(5, 5), textcoords="offset points", fontsize=8, color=INK
            )
    axes.set(xlabel="frames per second", ylabel="AP50 (%)")
    axes.set_title(title, fontsize=9, color=INK)
    axes.margins(0.15)
    plain_axes(axes)


def _measured(rows: Any, metric: str) -> list[Mapping[str, Any]]:
    return [row for row in rows if row[metric]]


def _count(row: Mapping[str, Any]) -> str:
    return row["label"].split()[0]
