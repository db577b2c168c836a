"""Files of detections, one module per format; all are written while the video is processed.

`text` writes files, the formats provide their content; `yolo` and `crops` are folders.
docs/detections.md shows all formats.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from sparsevod_core.files.kinds import COCO_RESULTS, Kind, json_with, starting
from sparsevod_core.inference.results.coco import CocoResults
from sparsevod_core.inference.results.csv_table import COLUMNS, CsvTable
from sparsevod_core.inference.results.json_files import DetectionsJson, JsonLines
from sparsevod_core.inference.results.mot import MotDetections
from sparsevod_core.inference.results.text import ResultsFile, ResultsText, TextFormat
from sparsevod_core.inference.results.yolo import YoloLabels
from sparsevod_core.structures import Category

__all__ = ["FORMATS", "KINDS", "ResultsFile", "open_results"]

_TEXTS: dict[str, Callable[[dict[str, Any], Sequence[Category]], TextFormat]] = {
    "json": DetectionsJson,
    "jsonl": JsonLines,
    "csv": CsvTable,
    "coco": CocoResults,
    "mot": MotDetections,
}
FORMATS = (*_TEXTS, "yolo")
_MOT_LINE = rb"\d+,-1(,-?\d+\.\d{3}){4},\d\.\d{6},-1,-1,-1\n"
KINDS: dict[str, Kind | None] = {
    "json": json_with("sparsevod.detections"),
    "jsonl": json_with("sparsevod.detections.lines"),
    "csv": starting("a table of detections", ",".join(COLUMNS).encode() + rb"\r?\n"),
    "coco": COCO_RESULTS,
    "mot": starting("a det.txt of sparsevod", _MOT_LINE),
    "yolo": None,
    "crop": None,
}
"""By which a file of an earlier run is recognized; None for folders."""


def open_results(
    kind: str,
    path: Path,
    header: dict[str, Any],
    categories: Sequence[Category],
    *,
    is_own: bool = False,
) -> ResultsFile:
    """Open a file, or for `yolo` a folder, that appears under its name when it is complete.

    Args:
        kind: Format, one of `FORMATS`.
        path: Path of the file or folder; `-` is stdout, for all but `yolo`.
        header: Values known before the first frame; `width` and `height` at least.
        categories: The model's classes, `categories[label]`.
        is_own: For `yolo`, see `NewFolder`.

    Raises:
        ConfigError: There is a file of another kind, or a folder that is not empty.
        DataError: The file cannot be written.
    """
    if kind == "yolo":
        size = header["width"], header["height"]
        return YoloLabels(path, size, categories, is_own=is_own)
    return ResultsText(path, _TEXTS[kind](header, categories), KINDS[kind])
