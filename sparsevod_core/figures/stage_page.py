"""Page of the stage figure: panels in frame pixels, text in inches and points."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.patheffects import Normal, Stroke

from sparsevod_core.figures import stage_layout as layout
from sparsevod_core.figures.labels import place_labels
from sparsevod_core.figures.stage_layout import Layout
from sparsevod_core.figures.style import Color, text_color

DPI = 300
TITLE_PT, SUBTITLE_PT, ROW_TITLE_PT = 8.0, 5.5, 6.0
REMARK_PT, NOTE_PT = 6.5, 5.5
LABEL_PT_PER_IN, MIN_LABEL_PT, MAX_LABEL_PT = 4.8, 4.2, 6.5
DIM: Color = (0.38, 0.4, 0.43)  # secondary text
BORDER: Color = (0.75, 0.76, 0.78)
PLATE_HEIGHT, PAD, BASELINE = 1.3, 0.25, 0.36  # of a label, in units of its text size
PLATE_STEPS = 10  # per point; labels are placed on a grid of steps
HALO_PT, HALO_OPACITY = 0.8, 0.5
PATH_PT, PATH_DOT_PT = 0.8, 1.6
CHART_LEFT_IN, CHART_BELOW_IN, CHART_PT = 0.16, 0.1, 4.2


class Page:
    """A figure with a layout, and notes below its panels.

    Attributes:
        figure: The figure.
    """

    def __init__(self, grid: Layout, notes: str) -> None:
        lines = layout.wrap(notes, NOTE_PT, grid.width - 2 * layout.MARGIN_IN)
        height = grid.height + layout.NOTE_LINE_IN * len(lines) + layout.MARGIN_IN
        self.figure = Figure(figsize=(grid.width, height), dpi=DPI, facecolor="white")
        self._grid = grid
        for number, line in enumerate(lines):
            below = grid.height + layout.NOTE_LINE_IN * (number + 0.75)
            left = layout.MARGIN_IN
            self._text(left, below, line, NOTE_PT, color=DIM, horizontalalignment="left")

    def column_titles(self, titles: Sequence[str], subtitles: Sequence[str]) -> None:
        """Write two lines above each column."""
        title_pt = layout.fitting_size(titles, TITLE_PT, self._grid.column_width)
        subtitle_pt = layout.fitting_size(subtitles, SUBTITLE_PT, self._grid.column_width)
        for column, (title, subtitle) in enumerate(zip(titles, subtitles, strict=True)):
            center = self._grid.column_center(column)
            self._text(center, layout.TITLE_BASE_IN, title, title_pt)
            self._text(center, layout.SUBTITLE_BASE_IN, subtitle, subtitle_pt, color=DIM)

    def row_title(self, row: int, title: str) -> None:
        """Write one or two lines beside a row, rotated by 90 degrees."""
        lines = title.splitlines() or [""]
        size = layout.fitting_size(lines, ROW_TITLE_PT, self._grid.row_heights[row])
        style = {"rotation": 90, "verticalalignment": "center", "multialignment": "center"}
        self._text(layout.SIDE_IN / 2, self._grid.row_center(row), title, size, **style)

    def panel(self, row: int, column: int, image: UInt8[np.ndarray, "H W 3"]) -> Panel:
        """Add a panel with an image."""
        panel_width, panel_height = self._grid.panel_sizes[row]
        left = self._grid.column_center(column) - panel_width / 2
        bottom = self._grid.row_center(row) + panel_height / 2
        page_width, page_height = self.figure.get_size_inches()
        size = (panel_width / page_width, panel_height / page_height)
        axes = self.figure.add_axes((*self._position(left, bottom), *size))
        return Panel(
            axes,
            image,
            frame_px_per_pt=image.shape[1] / (panel_width * 72),
            column_width_in=self._grid.column_width,
        )

    def chart(self, row: int, column: int) -> Axes:
        """Add axes in place of a panel, for curves."""
        panel_width, panel_height = self._grid.panel_sizes[row]
        left = self._grid.column_center(column) - panel_width / 2 + CHART_LEFT_IN
        bottom = self._grid.row_center(row) + panel_height / 2 - CHART_BELOW_IN
        page_width, page_height = self.figure.get_size_inches()
        across, down = panel_width - CHART_LEFT_IN, panel_height - CHART_BELOW_IN
        place = (*self._position(left, bottom), across / page_width, down / page_height)
        axes = self.figure.add_axes(place)
        axes.spines[:].set(linewidth=0.4, color=BORDER)
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(labelsize=CHART_PT, length=1.5, width=0.4, pad=1, colors=DIM)
        return axes

    def _text(self, left: float, top: float, text: str, size_pt: float, **style: Any) -> None:
        style = {"horizontalalignment": "center", "verticalalignment": "baseline"} | style
        x, y = self._position(left, top)
        # No math: names may contain a dollar sign.
        self.figure.text(x, y, text, fontsize=size_pt, parse_math=False, **style)

    def _position(self, left: float, top: float) -> tuple[float, float]:
        width, height = self.figure.get_size_inches()
        return left / width, 1 - top / height


class Panel:
    """An image of the page; boxes are in pixels of the frame, lines and text in points.

    Attributes:
        width, height: Size of the frame in pixels.
    """

    def __init__(
        self,
        axes: Axes,
        image: UInt8[np.ndarray, "H W 3"],
        *,
        frame_px_per_pt: float,
        column_width_in: float,
    ) -> None:
        height, width = image.shape[:2]
        axes.imshow(image, extent=(0, width, height, 0), aspect="auto")
        axes.set(xticks=[], yticks=[], xlim=(0, width), ylim=(height, 0))
        axes.spines[:].set(linewidth=0.4, color=BORDER)
        self._axes = axes
        self.width, self.height = width, height
        self._px_per_pt = frame_px_per_pt
        self._column_width = column_width_in

    @property
    def label_pt(self) -> float:
        """Text size of labels, which depends on the width of the panel."""
        return min(max(LABEL_PT_PER_IN * self._column_width, MIN_LABEL_PT), MAX_LABEL_PT)

    def box(
        self, box_xyxy: Float[np.ndarray, " 4"], color: Color, line_pt: float, *, halo: bool = True
    ) -> None:
        """Draw a box inside the frame; the halo separates its line from the image."""
        left, top, right, bottom = box_xyxy.tolist()
        line = Rectangle(
            (left, top),
            right - left,
            bottom - top,
            fill=False,
            edgecolor=color,
            linewidth=line_pt,
            joinstyle="miter",
            clip_on=False,  # the full line width, also along the border
            gid="box",
        )
        if halo:
            outline = Stroke(
                linewidth=line_pt + HALO_PT, foreground=text_color(color), alpha=HALO_OPACITY
            )
            line.set_path_effects([outline, Normal()])
        self._axes.add_patch(line)

    def path(self, points: Float[np.ndarray, "P 2"], color: Color) -> None:
        """Draw a line through points, with a dot at each."""
        halo = Stroke(linewidth=PATH_PT + HALO_PT, foreground="black", alpha=HALO_OPACITY)
        self._axes.plot(
            *points.T,
            color=color,
            linewidth=PATH_PT,
            marker="o",
            markersize=PATH_DOT_PT,
            markeredgewidth=0,
            path_effects=[halo, Normal()],
            clip_on=True,
            gid="path",
        )

    def dots(self, points: Float[np.ndarray, "P 2"], color: Color, size_pt: float) -> None:
        """Draw translucent dots, darker where they overlap."""
        x, y = points.T
        self._axes.scatter(x, y, s=size_pt**2, color=[color], alpha=0.5, linewidths=0, gid="dots")

    def foot(self, text: str) -> None:
        """Write a line below the panel."""
        self._axes.text(
            self.width / 2,
            self.height + layout.FOOT_BASE_IN * 72 * self._px_per_pt,
            text,
            fontsize=layout.fitting_size([text], SUBTITLE_PT, self._column_width),
            color=DIM,
            horizontalalignment="center",
            gid="foot",
        )

    def remark(self, text: str) -> None:
        """Write text in the middle of a panel that would otherwise look empty."""
        self._axes.text(
            self.width / 2,
            self.height / 2,
            text,
            fontsize=layout.fitting_size(text.splitlines(), REMARK_PT, 0.9 * self._column_width),
            color=DIM,
            horizontalalignment="center",
            verticalalignment="center",
            gid="remark",
        )

    def labels(
        self,
        boxes_xyxy: Float[np.ndarray, "M 4"],
        texts: Sequence[str],
        colors: Sequence[Color],
        size_pt: float,
    ) -> None:
        """Label the first `len(texts)` boxes, on plates in their color that hide few boxes.

        A label for which there is no room is omitted, the last ones first.
        """
        unit = self._px_per_pt / PLATE_STEPS
        step = size_pt * PLATE_STEPS
        sizes = [
            (
                math.ceil(layout.text_width(text, size_pt) * 72 * PLATE_STEPS + 2 * PAD * step),
                round(PLATE_HEIGHT * step),
            )
            for text in texts
        ]
        panel_size = (int(self.width / unit), int(self.height / unit))
        corners = place_labels(boxes_xyxy / unit, sizes, panel_size)
        for corner, (width, height), text, color in zip(corners, sizes, texts, colors, strict=True):
            if corner is None:
                continue
            left, top = corner
            self._axes.add_patch(
                Rectangle(
                    (left * unit, top * unit),
                    width * unit,
                    height * unit,
                    facecolor=color,
                    linewidth=0,
                    gid="plate",
                )
            )
            self._axes.text(
                (left + PAD * step) * unit,
                (top + height - BASELINE * step) * unit,
                text,
                fontsize=size_pt,
                color=text_color(color),
                parse_math=False,
                gid="label",
            )
