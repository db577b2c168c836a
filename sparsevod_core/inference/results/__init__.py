"""Files of detections, one module per format; all are written while the video is processed.

`text` writes files, the formats provide their content; `yolo` and `crops` are folders. `coco_vid`
and `crops` contain only the detections that are drawn, and are opened by `outputs`.
docs/detections.md shows all formats.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from sparsevod_core.files.kinds import COCO_RESULTS, Kind, json_with, starting
from sparsevod_core.inference.results.coco import CocoIds, CocoResults
from sparsevod_core.inference.results.coco_vid import SCHEMA_NAME as COCO_VID
from sparsevod_core.inference.results.csv_table import COLUMNS, TRACK_COLUMN, CsvTable
from sparsevod_core.inference.results.json_files import DetectionsJson, JsonLines
from sparsevod_core.inference.results.mot import MotDetections
from sparsevod_core.inference.results.text import ResultsFile, ResultsText, TextFormat
from sparsevod_core.inference.results.yolo import YoloLabels
from sparsevod_core.structures import Category

__all__ = ["FORMATS", "KINDS", "ResultsFile", "ResultsText", "open_results"]

_TEXTS: dict[str, Callable[[dict[str, Any], Sequence[Category]], TextFormat]] = {
    "json": DetectionsJson,
    "jsonl": JsonLines,
    "csv": CsvTable,
    "mot": MotDetections,
}
FORMATS = (*_TEXTS, "coco", "yolo")
_CSV_HEAD = rb"%s(,%s)?\r?\n" % (",".join(COLUMNS).encode(), TRACK_COLUMN.encode())
_MOT_LINE = rb"\d+,(-1|\d+)(,-?\d+\.\d{3}){4},\d\.\d{6},-1,-1,-1\n"
_COCO_VID_HEAD = rb'\{"info": \{"schema": "%s/' % COCO_VID.encode()
KINDS: dict[str, Kind | None] = {
    "json": json_with("sparsevod.detections"),
    "jsonl": json_with("sparsevod.detections.lines"),
    "csv": starting("a table of detections", _CSV_HEAD),
    "coco": COCO_RESULTS,
    "coco_vid": starting("COCO-VID JSON of `sparsevod detect`", _COCO_VID_HEAD),
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
    coco_ids: CocoIds | None = None,
    is_own: bool = False,
) -> ResultsFile:
    """Open a file, or for `yolo` a folder, that appears under its name when it is complete.

    Args:
        kind: Format, one of `FORMATS`.
        path: Path of the file or folder; `-` is stdout, for all but `yolo`.
        header: Values known before the first frame; `width` and `height` at least.
        categories: The model's classes, `categories[label]`.
        coco_ids: For `coco`, see `CocoResults`.
        is_own: For `yolo`, see `NewFolder`.

    Raises:
        ConfigError: There is a file of another kind, or a folder that is not empty.
        DataError: The file cannot be written.
    """
    if kind == "yolo":
        size = header["width"], header["height"]
        return YoloLabels(path, size, categories, is_own=is_own)
    if kind == "coco":
        return ResultsText(path, CocoResults(header, categories, coco_ids), KINDS[kind])
    return ResultsText(path, _TEXTS[kind](header, categories), KINDS[kind])
