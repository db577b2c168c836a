"""Contact sheet: many small images with captions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import UInt8

from sparsevod_core.figures.shapes import draw_plate, draw_text, text_size
from sparsevod_core.figures.style import Color

TILE_PX = (480, 300)
"""Maximum width and height of an image on the sheet."""

_MARGIN_PX, _GAP_PX = 16, 10
_MIN_COLUMN_PX = 300  # for the caption
_TITLE_PX, _CAPTION_PX, _KEY_PX = 20, 14, 14
_BACKGROUND: Color = (0.09, 0.1, 0.11)
_BRIGHT: Color = (0.96, 0.96, 0.97)
_DIM: Color = (0.66, 0.68, 0.71)


@dataclass(frozen=True, slots=True, eq=False)
class Tile:
    """Image of at most `TILE_PX`, with a bold caption line and a dim one below it."""

    image: UInt8[np.ndarray, "H W 3"]
    heading: str
    note: str


def fitting_scale(width: int, height: int) -> float:
    """Return the factor by which to scale an image to fit a tile."""
    return min(TILE_PX[0] / width, TILE_PX[1] / height)


def draw_sheet(
    rows: Sequence[Sequence[Tile]], *, title: str, key: Sequence[tuple[Color, str]]
) -> UInt8[np.ndarray, "H W 3"]:
    """Draw rows of tiles below a title, and a color key below them.

    Args:
        rows: At least one row; no row may be empty.
        title: One line.
        key: Colors and their meaning.
    """
    line = text_size("Ag", font_px=_CAPTION_PX, bold=True)[1]
    columns = max(map(len, rows))
    column_px = max(_MIN_COLUMN_PX, *(tile.image.shape[1] for row in rows for tile in row))
    row_heights = [max(tile.image.shape[0] for tile in row) for row in rows]
    title_height = text_size(title, font_px=_TITLE_PX, bold=True)[1]
    width = 2 * _MARGIN_PX + columns * column_px + (columns - 1) * _GAP_PX
    keys = _wrapped_key(key, width - 2 * _MARGIN_PX)
    top = 2 * _MARGIN_PX + title_height
    height = top + sum(row_heights) + len(rows) * (2 * line + 2 * _GAP_PX)
    sheet = np.full((height + len(keys) * (line + 4) + _MARGIN_PX, width, 3), _BACKGROUND) * 255
    sheet = sheet.astype(np.uint8)
    _text(sheet, _MARGIN_PX, _MARGIN_PX, title, _TITLE_PX, width - 2 * _MARGIN_PX, bold=True)
    for row, row_height in zip(rows, row_heights, strict=True):
        for column, tile in enumerate(row):
            left = _MARGIN_PX + column * (column_px + _GAP_PX)
            tile_height, tile_width = tile.image.shape[:2]
            sheet[top : top + tile_height, left : left + tile_width] = tile.image
            below = top + row_height + 4
            _text(sheet, left, below, tile.heading, _CAPTION_PX, column_px, bold=True)
            _text(sheet, left, below + line, tile.note, _CAPTION_PX, column_px, color=_DIM)
        top += row_height + 2 * line + 2 * _GAP_PX
    for number, entries in enumerate(keys):
        left = _MARGIN_PX
        for color, text in entries:
            y = height + number * (line + 4)
            draw_plate(sheet, (left, y + line * 0.25, left + 22, y + line * 0.8), 3, color, 1.0)
            _text(sheet, left + 30, y, text, _KEY_PX, width, color=_DIM)
            left += _key_width(text)
    return sheet


def _key_width(text: str) -> int:
    return 30 + text_size(text, font_px=_KEY_PX, bold=False)[0] + 28


def _wrapped_key(key: Sequence[tuple[Color, str]], width: int) -> list[list[tuple[Color, str]]]:
    lines: list[list[tuple[Color, str]]] = [[]]
    used = 0
    for color, text in key:
        if lines[-1] and used + _key_width(text) > width:
            lines.append([])
            used = 0
        lines[-1].append((color, text))
        used += _key_width(text)
    return lines


def _text(
    sheet: np.ndarray,
    x: int,
    y: int,
    text: str,
    font_px: int,
    limit_px: int,
    *,
    bold: bool = False,
    color: Color = _BRIGHT,
) -> None:
    """Draw one line of text, shortened to a maximum width."""
    shown = text
    while (width := text_size(shown, font_px=font_px, bold=bold)[0]) > limit_px:
        text = text[: min(len(text) - 1, len(text) * limit_px // width)]
        shown = f"{text}…"
    draw_text(sheet, x, y, shown, font_px=font_px, bold=bold, color=color)
