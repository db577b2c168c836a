"""Reads a COCO results file: a JSON list of {image_id, category_id, bbox, score}."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import numpy as np

from sparsevod_core.data.json_stream import stream_list
from sparsevod_core.errors import DataError
from sparsevod_core.evaluation.detection_table import DetectionTable
from sparsevod_core.evaluation.ground_truth import GroundTruth
from sparsevod_core.evaluation.result_columns import BrokenEntryError, Columns, KnownIds, columns_of

_BATCH_ENTRIES = 1 << 16


def read_results(path: Path, truth: GroundTruth) -> DetectionTable:
    """Every detection of a results file; their order within a frame is kept.

    Raises:
        DataError: unreadable file, or the first entry that is broken or names an image or class
            that the ground truth does not have.
    """
    known = KnownIds.of(truth)
    _require_list(path)
    entries = stream_list(path)
    parts: list[Columns] = [columns_of([], known)]
    count = 0
    while batch := list(islice(entries, _BATCH_ENTRIES)):
        try:
            parts.append(columns_of(batch, known))
        except BrokenEntryError as broken:
            raise DataError(f"{path}: entry {count + broken.position}: {broken.reason}") from None
        count += len(batch)
    return DetectionTable.grouped(
        len(truth.image_ids), *map(np.concatenate, zip(*parts, strict=True))
    )


def _require_list(path: Path) -> None:
    """Say at once what the file is instead: often it is the other of two that were swapped."""
    kinds = {"{": "an object", '"': "text", "n": "null", "": "nothing: the file is empty"}
    try:
        with path.open(encoding="utf-8-sig") as file:
            first = file.read(4096).lstrip()[:1]
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not a JSON file: it is not UTF-8 text") from error
    if first != "[":
        raise DataError(
            f"{path}: not a COCO results file: expected a list, got "
            f"{kinds.get(first, f'text that begins with {first!r}')}",
            hint='each entry is {"image_id": 1, "category_id": 1, "bbox": [x, y, w, h], '
            '"score": 0.5}, as `sparsevod eval CKPT --save-predictions` writes them',
        )
