"""Detections as files: a format a file here, all written while the video runs.

`text` opens and completes files, each format says what stands in them; `yolo` is a folder.
docs/detections.md shows all formats.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from sparsevod_core.inference.results.coco import CocoResults
from sparsevod_core.inference.results.csv_table import CsvTable
from sparsevod_core.inference.results.json_file import DetectionsJson
from sparsevod_core.inference.results.json_lines import JsonLines
from sparsevod_core.inference.results.mot import MotDetections
from sparsevod_core.inference.results.text import ResultsFile, ResultsText, TextFormat
from sparsevod_core.inference.results.yolo import YoloLabels
from sparsevod_core.structures import Category

__all__ = ["FORMATS", "ResultsFile", "open_results"]

_TEXTS: dict[str, Callable[[dict[str, Any], Sequence[Category]], TextFormat]] = {
    "json": DetectionsJson,
    "jsonl": JsonLines,
    "csv": CsvTable,
    "coco": CocoResults,
    "mot": MotDetections,
}
FORMATS = (*_TEXTS, "yolo")


def open_results(
    kind: str, path: Path, header: dict[str, Any], categories: Sequence[Category]
) -> ResultsFile:
    """A file, or for `yolo` a folder, that appears under its name when it is complete.

    Args:
        kind: one of `FORMATS`.
        path: where; `-` is stdout, for all but `yolo`.
        header: what is known before the first frame: `width` and `height` at least.
        categories: `categories[k]` is the class of label k.

    Raises:
        DataError: it cannot be written.
    """
    if kind == "yolo":
        return YoloLabels(path, (header["width"], header["height"]), categories)
    return ResultsText(path, _TEXTS[kind](header, categories))
