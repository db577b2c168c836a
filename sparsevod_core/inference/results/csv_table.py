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


class CsvTable:
    """Table whose column `frame` counts from 0; frames without detections have no row."""

    def __init__(self, header: dict[str, Any], categories: Sequence[Category]) -> None:
        self._categories = categories

    def start(self) -> str:
        return _rows([COLUMNS])

    def frame(self, found: FrameDetections, time_s: Fraction | None) -> str:
        time = "" if time_s is None else f"{float(time_s):.6f}"
        return _rows(
            (found.index, time, *box, score, _escaped(category.name), category.id)
            for box, score, category in rounded(found.detections, self._categories)
        )

    def end(self, *, truncated: bool) -> str:
        return ""


def _rows(rows: Any) -> str:
    text = io.StringIO()
    csv.writer(text).writerows(rows)
    return text.getvalue()


def _escaped(name: str) -> str:
    """Prefix what a spreadsheet would run as a formula (OWASP, CSV injection)."""
    return f"'{name}" if name.startswith(("=", "+", "-", "@", "\t", "\r")) else name
