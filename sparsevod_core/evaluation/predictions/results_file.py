"""Reads a COCO results file: a JSON list of {image_id, category_id, bbox, score}."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np

from sparsevod_core.data.json_stream import stream_list
from sparsevod_core.errors import DataError
from sparsevod_core.evaluation.metrics.detection_table import DetectionTable
from sparsevod_core.evaluation.metrics.ground_truth import GroundTruth
from sparsevod_core.evaluation.predictions.result_columns import (
    BrokenEntryError,
    Columns,
    KnownIds,
    columns_of,
)
from sparsevod_core.evaluation.predictions.results_pieces import NoPiecesError, cut, read_pieces
from sparsevod_core.machine import num_processors
from sparsevod_core.reporting import Reporter, SilentReporter

PARALLEL_BYTES = 1 << 25
"""Smaller files are read before other processes have started."""

MAX_PROCESSES = 8

_BATCH_ENTRIES = 1 << 14


def read_results(
    path: Path, truth: GroundTruth, reporter: Reporter | None = None
) -> DetectionTable:
    """Every detection of a results file; their order within a frame is kept.

    A large file is read by as many processes as the machine has processors, and memory grows with
    the table only: 46 bytes a detection.

    Raises:
        DataError: unreadable file, or the first entry that is broken or names an image or class
            that the ground truth does not have.
    """
    _require_list(path)
    known = KnownIds.of(truth)
    parts: list[Columns] = []
    is_large = path.stat().st_size >= PARALLEL_BYTES
    num_processes = min(num_processors(), MAX_PROCESSES) if is_large else 1
    if num_processes > 1:
        try:
            parts = _read_together(path, known, num_processes, reporter or SilentReporter())
        except NoPiecesError:  # entries with lists of objects in them, or not valid JSON at all
            parts = []
    if not parts:
        parts = list(_located(path, _read_alone(path, known)))
    columns = [list(column) for column in zip(*parts, strict=True)]
    del parts
    # Joined one after the other, so that only one column is there twice at a time.
    return DetectionTable.grouped(
        len(truth.image_ids), *(np.concatenate(columns.pop(0)) for _ in Columns._fields)
    )


def _read_together(
    path: Path, known: KnownIds, num_processes: int, reporter: Reporter
) -> list[Columns]:
    pieces = cut(path)
    total = round(pieces[-1].end / 1e6)
    parts = []
    with reporter.progress(f"read {path.name}", total, "MB") as progress:
        shown = 0
        read = read_pieces(path, pieces, known, min(num_processes, len(pieces)))
        for part, piece in zip(_located(path, read), pieces, strict=True):
            parts.append(part)
            progress.advance(round(piece.end / 1e6) - shown)
            shown = round(piece.end / 1e6)
    return parts


def _read_alone(path: Path, known: KnownIds) -> Iterator[Columns]:
    entries = stream_list(path)
    yield columns_of([], known)
    while batch := list(islice(entries, _BATCH_ENTRIES)):
        yield columns_of(batch, known)


def _located(path: Path, parts: Iterator[Columns]) -> Iterator[Columns]:
    """The same parts; an error counts entries from the file's first."""
    count = 0
    try:
        for part in parts:
            yield part
            count += len(part.scores)
    except BrokenEntryError as broken:
        raise DataError(f"{path}: entry {count + broken.position}: {broken.reason}") from None


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
