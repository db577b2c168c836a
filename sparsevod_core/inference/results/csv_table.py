"""CSV table (RFC 4180), one row per detection."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

from sparsevod_core.inference.results.entries import rounded
from sparsevod_core.structures import Category, FrameDetections

COLUMNS = ("frame", "time_s", "x1", "y1", "x2", "y2", "score", "label", "class_id")
TRACK_COLUMN = "track_id"


class CsvTable:
    """Table whose column `frame` counts from 0; frames without detections have no row.

    With tracking there is a last column `track_id`, empty where the id is not known.
    """

    def __init__(self, header: dict[str, Any], categories: Sequence[Category]) -> None:
        self._categories = categories
        self._is_tracked = "track" in header

    def start(self) -> str:
        return _rows([(*COLUMNS, TRACK_COLUMN) if self._is_tracked else COLUMNS])

    def frame(self, found: FrameDetections, time_s: Fraction | None) -> str:
        time = "" if time_s is None else f"{float(time_s):.6f}"
        rows = []
        for box, score, category, track_id in rounded(found.detections, self._categories):
            row = (found.index, time, *box, score, _escaped(category.name), category.id)
            rows.append((*row, track_id) if self._is_tracked else row)
        return _rows(rows)

    def end(self, *, truncated: bool) -> list[str]:
        return []


def _rows(rows: Any) -> str:
    text = io.StringIO()
    csv.writer(text).writerows(rows)
    return text.getvalue()


def _escaped(name: str) -> str:
    """Prefix what a spreadsheet would run as a formula (OWASP, CSV injection)."""
    return f"'{name}" if name.startswith(("=", "+", "-", "@", "\t", "\r")) else name
