"""Page of plots about a dataset: one row per class on top, overall histograms below."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sparsevod_core.figures.curves import DIM, DPI, INK, MAX_NAME, plain_axes, shortened
from sparsevod_core.figures.dataset_plots import (
    BAR,
    HEAT,
    Bars,
    draw_bars,
    draw_centers,
    log_axis,
    remark,
)
from sparsevod_core.figures.saving import SETTINGS
from sparsevod_core.figures.stage_layout import fitting_size, text_width, wrap
from sparsevod_core.figures.style import Color, class_color

MAX_CLASSES = 40
"""Maximum number of rows; of more classes, the largest and the smallest are drawn."""

_WIDTH_IN, _MARGIN_IN = 10.0, 0.3
_HEAD_IN, _NOTE_IN, _TITLE_IN = 0.75, 0.17, 0.3
_NAMES_IN, _BARS_IN, _STRIP_IN, _SPEEDS_IN, _GAP_IN = 1.45, 2.55, 2.7, 1.95, 0.35
_ROW_IN, _LEAST_ROWS_IN, _AXIS_IN = 0.19, 0.6, 0.5
_PLOT_HEIGHT_IN, _BETWEEN_IN = 1.55, 0.6
_FEW_ROWS, _TALL_ROW_IN = 12, 0.26
_NAME_PT = 8
_BOLD = 0.85  # width of regular letters, which are measured, relative to bold ones

_SPEEDS = (("fast", "#d55e00"), ("medium", "#e9b44c"), ("slow", BAR))
_COCO_SIDES_PX = (32, 96)
_SPEED_LIMITS = (0.7, 0.9)


@dataclass(frozen=True, slots=True)
class DatasetView:
    """Content of the page.

    Attributes:
        title: Title of the page.
        facts: Line below the title.
        notes: Lines at the end of the page.
        class_names: Names of the K classes.
        boxes_per_class: Number of boxes of each class.
        sides_px: Histogram of each class's box sides in pixels, between `side_edges_px`.
        side_edges_px: Edges of that histogram.
        speeds: Numbers of fast, medium and slow boxes of each class.
        boxes_per_frame, frames_per_video, track_lengths, motion_iou, aspect: Histograms.
        centers: Number of box centers in each cell of the frame.
        frame_aspect: Width / height of the most frequent frame size.
    """

    title: str
    facts: str
    notes: Sequence[str]
    class_names: Sequence[str]
    boxes_per_class: Int[np.ndarray, " K"]
    sides_px: Int[np.ndarray, "K side_bins"]
    side_edges_px: Float[np.ndarray, " side_bins_plus_1"]
    speeds: Int[np.ndarray, "K 3"]
    boxes_per_frame: Bars
    frames_per_video: Bars
    track_lengths: Bars
    motion_iou: Bars
    aspect: Bars
    centers: Int[np.ndarray, "rows columns"]
    frame_aspect: float


def draw_dataset(view: DatasetView) -> Figure:
    """Draw the page; its height grows with the number of classes, up to `MAX_CLASSES`."""
    shown = _shown_classes(view.boxes_per_class)
    row_height = _TALL_ROW_IN if len(shown) <= _FEW_ROWS else _ROW_IN
    rows_height = max(row_height * len(shown), _LEAST_ROWS_IN)
    notes = [*_note_on_classes(view, shown), *view.notes]
    notes = [line for note in notes for line in wrap(note, 8, _WIDTH_IN - 2 * _MARGIN_IN)]
    plots_top = _HEAD_IN + _TITLE_IN + rows_height + _AXIS_IN
    notes_top = plots_top + 2 * (_TITLE_IN + _PLOT_HEIGHT_IN + _BETWEEN_IN)
    with rc_context(SETTINGS):
        page = _Page(notes_top + _NOTE_IN * len(notes) + _MARGIN_IN)
        title_pt = fitting_size([view.title], 11, _BOLD * (_WIDTH_IN - 2 * _MARGIN_IN))
        page.words(0.3, view.title, title_pt, INK, weight="bold")
        page.words(0.52, view.facts, 9, DIM)
        _draw_classes(page, view, shown, rows_height)
        _draw_plots(page, view, plots_top)
        for number, note in enumerate(notes):
            page.words(notes_top + _NOTE_IN * (number + 0.7), note, 8, DIM)
    return page.figure


class _Page:
    """Figure with positions in inches from the upper left corner."""

    def __init__(self, height_in: float) -> None:
        self.figure = Figure(figsize=(_WIDTH_IN, height_in), dpi=DPI, facecolor="white")
        self._height = height_in

    def words(self, top: float, text: str, size_pt: float, color: Color, **style: Any) -> None:
        place = (_MARGIN_IN / _WIDTH_IN, 1 - top / self._height)
        # A dollar sign in a name does not start a formula.
        self.figure.text(*place, text, fontsize=size_pt, color=color, parse_math=False, **style)

    def axes(self, left: float, top: float, width: float, height: float, title: str) -> Axes:
        bottom = self._height - top - height
        place = (left / _WIDTH_IN, bottom / self._height)
        axes = self.figure.add_axes((*place, width / _WIDTH_IN, height / self._height))
        axes.set_title(title, fontsize=9, loc="left", color=INK, pad=5)
        plain_axes(axes)
        axes.tick_params(labelsize=7)
        for label in (axes.xaxis.label, axes.yaxis.label):
            label.set_fontsize(8)
        return axes


def _shown_classes(boxes_per_class: Int[np.ndarray, " K"]) -> list[int]:
    """Return classes in the file's order; of too many, those with the most and fewest boxes."""
    if len(boxes_per_class) <= MAX_CLASSES:
        return list(range(len(boxes_per_class)))
    order = np.argsort(-boxes_per_class, kind="stable")
    half = MAX_CLASSES // 2
    return sorted([*order[:half].tolist(), *order[-half:].tolist()])


def _note_on_classes(view: DatasetView, shown: list[int]) -> list[str]:
    if len(shown) == len(view.class_names):
        return []
    half = MAX_CLASSES // 2
    return [
        f"Only the {half} classes with the most boxes and the {half} with the fewest are shown, of "
        f"{len(view.class_names):,}."
    ]


def _draw_classes(page: _Page, view: DatasetView, shown: list[int], height: float) -> None:
    """Draw three plots with one row per class."""
    top, left = _HEAD_IN + _TITLE_IN, _MARGIN_IN + _NAMES_IN
    title = "boxes per class"
    if len(shown) < len(view.class_names):
        title += f" ({len(shown)} of {len(view.class_names):,})"
    bars = page.axes(left, top, _BARS_IN, height, title)
    left += _BARS_IN + _GAP_IN
    strip = page.axes(left, top, _STRIP_IN, height, "box side (square root of area)")
    left += _STRIP_IN + _GAP_IN
    speeds = page.axes(left, top, _SPEEDS_IN, height, "")
    rows = np.arange(len(shown))
    for axes in (bars, strip, speeds):
        axes.set_ylim(len(shown) - 0.5, -0.5)
        axes.set_yticks([])
        axes.grid(False)
    _draw_counts(bars, view.boxes_per_class[shown], [class_color(label) for label in shown])
    names = [_shortened(view.class_names[label]) for label in shown]
    bars.set_yticks(rows, names, fontsize=_NAME_PT, color=INK)
    for name in bars.get_yticklabels():
        name.set_parse_math(False)
    bars.tick_params(axis="y", length=0)
    _draw_sides(strip, view.sides_px[shown], view.side_edges_px)
    _draw_speeds(speeds, view.speeds[shown])


def _shortened(name: str) -> str:
    """Shorten a name to the available width."""
    length = MAX_NAME
    while text_width(shortened(name, length), _NAME_PT) > _NAMES_IN - 0.1:
        length -= 1
    return shortened(name, length)


def _draw_counts(axes: Axes, counts: np.ndarray, colors: Sequence[Color]) -> None:
    axes.barh(np.arange(len(counts)), counts, height=0.7, color=colors)
    for row, count in enumerate(counts.tolist()):
        # Beside the bar: the axis leaves room for the number of the longest one.
        axes.annotate(
            f"{count:,}", (count, row), (3, 0), textcoords="offset points", va="center",
            fontsize=7, color=DIM if count else "#c0392b",
        )  # fmt: skip
    axes.set_xlim(0, max(counts.max(initial=0), 1) * 1.25)
    axes.spines["bottom"].set_visible(False)
    axes.set_xticks([])


def _draw_sides(axes: Axes, counts: np.ndarray, edges: np.ndarray) -> None:
    """Draw the histogram of each class as a row of shades, darkest in its fullest bin."""
    most = counts.max(axis=1, keepdims=True, initial=0)
    shares = counts / np.maximum(most, 1)
    rows = np.arange(len(counts) + 1) - 0.5
    axes.pcolormesh(edges, rows, shares, cmap=HEAT, vmin=0, vmax=1, rasterized=True)
    for row in rows[1:-1]:
        axes.axhline(row, color="white", linewidth=1)
    log_axis(axes, edges, "pixels")
    for side in _COCO_SIDES_PX:
        axes.axvline(side, color=INK, linewidth=0.8, linestyle=(0, (3, 2)))


def _draw_speeds(axes: Axes, counts: np.ndarray) -> None:
    shares = 100 * counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    start = np.zeros(len(counts))
    for (name, color), share in zip(_SPEEDS, shares.T, strict=True):
        axes.barh(np.arange(len(counts)), share, 0.7, left=start, color=color, label=name)
        start += share
    axes.set(xlim=(0, 100), xlabel="% of tracked boxes")
    axes.set_xticks([0, 50, 100])
    axes.legend(
        loc="lower left",
        bbox_to_anchor=(-0.03, 1.0),
        ncols=3,
        fontsize=8,
        frameon=False,
        handlelength=0.8,
        handletextpad=0.4,
        columnspacing=0.9,
        borderpad=0.1,
    )
    if not counts.any():
        remark(axes, "no tracks")


def _draw_plots(page: _Page, view: DatasetView, top: float) -> None:
    """Draw the overall histograms in two rows of three."""
    width = (_WIDTH_IN - 2 * _MARGIN_IN - 3 * 0.45 - 2 * _GAP_IN) / 3

    def place(row: int, column: int, title: str) -> Axes:
        left = _MARGIN_IN + 0.45 + column * (width + 0.45 + _GAP_IN)
        down = top + _TITLE_IN + row * (_PLOT_HEIGHT_IN + _TITLE_IN + _BETWEEN_IN)
        return page.axes(left, down, width, _PLOT_HEIGHT_IN, title)

    draw_bars(place(0, 0, "boxes per frame"), view.boxes_per_frame, "boxes", "frames")
    draw_bars(place(0, 1, "frames per video"), view.frames_per_video, "frames", "videos")
    draw_bars(place(0, 2, "track length"), view.track_lengths, "boxes", "tracks")
    motion = place(1, 0, "motion IoU: fast, medium, slow")
    draw_bars(motion, view.motion_iou, "mean IoU with ±10 frames", "boxes", _speed_color)
    for limit in _SPEED_LIMITS:
        motion.axvline(limit, color=INK, linewidth=0.8, linestyle=(0, (3, 2)))
    aspect = place(1, 1, "box aspect ratio")
    draw_bars(aspect, view.aspect, "width / height", "boxes")
    centers = place(1, 2, "box centers in the frame")
    draw_centers(centers, view.centers, view.frame_aspect)


def _speed_color(motion_iou: float) -> str:
    return _SPEEDS[int(np.searchsorted(_SPEED_LIMITS, motion_iou))][1]
