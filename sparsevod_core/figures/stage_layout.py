"""Layout of the stage figure: lengths in inches, text sizes in points."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

from matplotlib.font_manager import FontProperties
from matplotlib.textpath import text_to_path

PAGE_WIDTH_IN, PAGE_HEIGHT_IN = 7.2, 9.4  # text area of a two-column page
MIN_COLUMN_IN, MIN_ROW_IN = 0.75, 0.45
MARGIN_IN, GAP_IN = 0.04, 0.06
SIDE_IN = 0.28  # row titles
HEAD_IN, TITLE_BASE_IN, SUBTITLE_BASE_IN = 0.3, 0.14, 0.25  # column titles
FOOT_IN, FOOT_BASE_IN = 0.11, 0.085  # line below a panel
NOTE_LINE_IN, MAX_NOTES_IN = 0.1, 0.6
FONT = "DejaVu Sans"  # bundled with matplotlib, identical on all systems


@dataclass(frozen=True, slots=True)
class Layout:
    """Positions of columns of equal width and of one row per frame, in inches.

    Panels have the aspect ratio of their frame.

    Attributes:
        width, height: Size of the figure without the notes below.
        column_width: Width of a column, at least that of the panels.
        row_tops: Distance of each row from the top.
        row_heights: Height of each row, at least that of the panels.
        panel_sizes: (width, height) of each row's panels.
    """

    width: float
    height: float
    column_width: float
    row_tops: tuple[float, ...]
    row_heights: tuple[float, ...]
    panel_sizes: tuple[tuple[float, float], ...]

    @classmethod
    def of(cls, frame_sizes: Sequence[tuple[int, int]], num_columns: int) -> Layout:
        """Make panels as wide as the page allows, or narrower so that the rows fit its height.

        Args:
            frame_sizes: (height, width) of each row's frame in pixels.
            num_columns: Number of panels side by side.
        """
        between = GAP_IN * (num_columns - 1)
        widest = (PAGE_WIDTH_IN - SIDE_IN - MARGIN_IN - between) / num_columns
        text_height = HEAD_IN + MAX_NOTES_IN + (FOOT_IN + GAP_IN) * len(frame_sizes)
        shapes = [height / width for height, width in frame_sizes]
        # Many rows extend beyond the page rather than become too small to read.
        spare = max(PAGE_HEIGHT_IN - text_height, MIN_ROW_IN * len(shapes))
        panel_width = min(widest, spare / sum(shapes))
        column_width = max(panel_width, MIN_COLUMN_IN)
        panel_sizes = tuple((panel_width, panel_width * shape) for shape in shapes)
        row_heights = tuple(max(height, MIN_ROW_IN) for _, height in panel_sizes)
        pitches = [height + FOOT_IN + GAP_IN for height in row_heights]
        *row_tops, end = accumulate(pitches, initial=HEAD_IN)
        return cls(
            width=SIDE_IN + column_width * num_columns + between + MARGIN_IN,
            height=end,
            column_width=column_width,
            row_tops=tuple(row_tops),
            row_heights=row_heights,
            panel_sizes=panel_sizes,
        )

    def column_center(self, column: int) -> float:
        """Return the distance of a column's center from the left."""
        return SIDE_IN + column * (self.column_width + GAP_IN) + self.column_width / 2

    def row_center(self, row: int) -> float:
        """Return the distance of a row's center from the top."""
        return self.row_tops[row] + self.row_heights[row] / 2


def text_width(text: str, size_pt: float) -> float:
    """Return the width of one line in inches."""
    font = FontProperties(family=FONT, size=size_pt)
    return float(text_to_path.get_text_width_height_descent(text, font, False)[0]) / 72


def fitting_size(lines: Sequence[str], size_pt: float, width_in: float) -> float:
    """Return the largest size up to `size_pt` at which no line is wider than `width_in`."""
    widest = max(text_width(line, size_pt) for line in lines)
    return size_pt * min(1.0, width_in / max(widest, 1e-6))


def wrap(text: str, size_pt: float, width_in: float) -> list[str]:
    """Wrap text at spaces to lines no wider than `width_in`, unless one word is wider."""
    lines: list[str] = []
    for paragraph in text.splitlines():
        line = ""
        for word in paragraph.split(" "):
            longer = f"{line} {word}".lstrip()
            if line and text_width(longer, size_pt) > width_in:
                lines.append(line)
                longer = word
            line = longer
        lines.append(line)
    return lines
