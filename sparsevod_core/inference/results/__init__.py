"""Files of detections, one module per format; all are written while the video is processed.

`text` writes files, the formats provide their content; `yolo` and `crops` are folders.
docs/detections.md shows all formats.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from sparsevod_core.inference.results.coco import CocoResults
from sparsevod_core.inference.results.csv_table import CsvTable
from sparsevod_core.inference.results.json_files import DetectionsJson, JsonLines
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
    """Open a file, or for `yolo` a folder, that appears under its name when it is complete.

    Args:
        kind: Format, one of `FORMATS`.
        path: Path of the file or folder; `-` is stdout, for all but `yolo`.
        header: Values known before the first frame; `width` and `height` at least.
        categories: The model's classes, `categories[label]`.

    Raises:
        DataError: The file cannot be written.
    """
    if kind == "yolo":
        return YoloLabels(path, (header["width"], header["height"]), categories)
    return ResultsText(path, _TEXTS[kind](header, categories))
