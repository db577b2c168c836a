"""Predictions from a COCO results file, a JSON list of {image_id, category_id, bbox, score}.

A large file is read in pieces by several processes: ImageNet VID's validation set has 17.6 million
detections, a minute of parsing for one process. The file is cut where a comma separates two braces.
If such a comma is inside an entry or a text, the piece before it does not parse as a list of
entries, and one process reads the file again.

The processes are started anew and import only this module. Forks of a process that has threads or
uses a GPU would not be safe, and `multiprocessing` would run the user's script again.
"""

from __future__ import annotations

import gc
import json
import math
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress
from itertools import islice
from pathlib import Path
from typing import IO, Any

import numpy as np

from sparsevod_core.data.json_stream import parse_json, stream_list
from sparsevod_core.errors import DataError
from sparsevod_core.evaluation.metrics.detection_table import DetectionTable
from sparsevod_core.evaluation.metrics.ground_truth import GroundTruth
from sparsevod_core.evaluation.predictions.columns import (
    Columns,
    InvalidEntryError,
    KnownIds,
    columns_of,
)
from sparsevod_core.evaluation.predictions.writer import RECORD_SUFFIX
from sparsevod_core.input_file import require_regular_file
from sparsevod_core.machine import num_processors
from sparsevod_core.reporting import Reporter, SilentReporter

PARALLEL_BYTES = 1 << 25
"""Smaller files are read before other processes have started."""

PIECE_BYTES = 8 << 20
"""About 40 MB as Python objects."""

MAX_PROCESSES = 8

OTHER_IDS = (
    "the image ids of the two files differ; to write the ids of the annotations, use "
    "`sparsevod detect VIDEOS --no-video --annotations GT.json --coco FOUND.json`, or "
    "`sparsevod eval CKPT --annotations GT.json --save-predictions FOUND.json`"
)

_BATCH_ENTRIES = 1 << 14
_BETWEEN_ENTRIES = re.compile(rb"\}([ \t\n\r]*,[ \t\n\r]*)\{")
_LONGEST_ENTRY = 1 << 16

_START = """
import json, sys
job = json.load(sys.stdin)
sys.path[:] = job["sys_path"]
from sparsevod_core.evaluation.predictions.from_file import serve
serve(job)
"""


Piece = tuple[int, int]
"""Start and end, in bytes, of some entries of the list with the commas between them."""


class NoPiecesError(Exception):
    """The file cannot be read in pieces."""


def read_predictions(
    path: Path, truth: GroundTruth, reporter: Reporter | None = None
) -> DetectionTable:
    """Read every detection; those of a frame keep their order.

    The files in a folder, each with other frames, are read as one; `sparsevod detect --coco` writes
    one for each video.

    Memory grows only with the table, 46 bytes per detection.

    Raises:
        DataError: The file cannot be read, or an entry is invalid or has an image or category that
            the ground truth lacks; the first one is reported. Or a folder has no files, or two of
            them have detections of the same frame.
    """
    known = KnownIds(truth.image_ids, truth.category_ids, str(truth.path))
    parts: list[Columns] = []
    is_read = np.zeros(len(truth.image_ids), dtype=bool)
    for file in _files(path):
        own = _read_file(file, known, reporter or SilentReporter())
        has_detections = np.zeros(len(is_read), dtype=bool)
        for part in own:
            has_detections[part.images] = True
        if (twice := np.flatnonzero(has_detections & is_read)).size:
            raise DataError(
                f"{file}: image_id {truth.image_ids[twice[0]]} has detections in another file of "
                f"{path} too",
                hint="keep one file for each video in the folder",
            )
        is_read |= has_detections
        parts += own
    columns = [list(column) for column in zip(*parts, strict=True)]
    del parts, own
    # One column after the other, so that only one exists twice at a time.
    return DetectionTable.grouped(
        len(truth.image_ids), *(np.concatenate(columns.pop(0)) for _ in Columns._fields)
    )


def _files(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    files = sorted(path.glob("*.coco.json")) or [
        file for file in sorted(path.glob("*.json")) if not file.name.endswith(RECORD_SUFFIX)
    ]
    if not files:
        raise DataError(f"{path}: no JSON file in the folder")
    return files


def _read_file(path: Path, known: KnownIds, reporter: Reporter) -> list[Columns]:
    _require_list(path)
    is_large = path.stat().st_size >= PARALLEL_BYTES
    num_processes = min(num_processors(), MAX_PROCESSES) if is_large else 1
    parts: list[Columns] = []
    if num_processes > 1:
        with suppress(NoPiecesError):  # nested lists of objects, or invalid JSON
            parts = _read_in_pieces(path, known, num_processes, reporter)
    return parts or list(_located(path, _read_whole(path, known)))


def _require_list(path: Path) -> None:
    """Raise a DataError if the file is not a JSON list; often two files were swapped."""
    kinds = {"{": "an object", '"': "text", "n": "null", "": "an empty file"}
    require_regular_file(path, DataError)
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


def _read_whole(path: Path, known: KnownIds) -> Iterator[Columns]:
    entries = stream_list(path)
    yield columns_of([], known)
    while batch := list(islice(entries, _BATCH_ENTRIES)):
        yield columns_of(batch, known)


def _located(path: Path, parts: Iterator[Columns]) -> Iterator[Columns]:
    """Yield the same parts; an error counts entries from the beginning of the file."""
    count = 0
    try:
        for part in parts:
            yield part
            count += len(part.scores)
    except InvalidEntryError as error:
        position, reason = error.args
        raise DataError(
            f"{path}: entry {count + position}: {reason}",
            hint=OTHER_IDS if reason.startswith("image_id") else None,
        ) from None


def _read_in_pieces(
    path: Path, known: KnownIds, num_processes: int, reporter: Reporter
) -> list[Columns]:
    pieces = cut(path)
    total = round(pieces[-1][1] / 1e6)
    parts = []
    with reporter.progress(f"read {path.name}", total, "MB") as progress:
        shown = 0
        read = _read_pieces(path, pieces, known, min(num_processes, len(pieces)))
        for part, (_, end) in zip(_located(path, read), pieces, strict=True):
            parts.append(part)
            progress.advance(round(end / 1e6) - shown)
            shown = round(end / 1e6)
    return parts


def cut(path: Path) -> list[Piece]:
    """Return pieces that together hold all entries of a list.

    Raises:
        NoPiecesError: The file does not begin and end like a list.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(_LONGEST_ENTRY)
        file.seek(max(0, size - _LONGEST_ENTRY))
        tail = file.read()
        first, last = head.lstrip()[:1], tail.rstrip()[-1:]
        if first != b"[" or last != b"]":
            raise NoPiecesError
        start, end = head.index(b"[") + 1, size - len(tail) + tail.rindex(b"]")
        pieces: list[Piece] = []
        for place in range(start + PIECE_BYTES, end - _LONGEST_ENTRY, PIECE_BYTES):
            file.seek(place)
            comma = _BETWEEN_ENTRIES.search(file.read(_LONGEST_ENTRY))
            if comma:
                pieces.append((start, place + comma.start(1)))
                start = place + comma.end(1)
    return [*pieces, (start, end)]


def _read_pieces(
    path: Path, pieces: Sequence[Piece], known: KnownIds, num_processes: int
) -> Iterator[Columns]:
    """Yield the columns of each piece, in the file's order.

    Raises:
        InvalidEntryError: See `columns_of`; the position counts from the beginning of the piece.
        NoPiecesError: A piece does not parse, or a process died.
    """
    try:
        with ExitStack() as stack:
            workers = [_start_worker(stack) for _ in range(num_processes)]
            for first, (send, _) in enumerate(workers):
                job = {
                    "sys_path": sys.path,
                    "path": str(path),
                    "pieces": pieces[first::num_processes],
                    "image_ids": list(known.images),
                    "category_ids": list(known.categories),
                    "file": known.file,
                }
                send.write(json.dumps(job).encode())
                send.close()
            for position in range(len(pieces)):
                _, answers = workers[position % num_processes]
                yield _receive(answers, known)
    except (OSError, ValueError) as error:  # ValueError: an incomplete answer
        raise NoPiecesError from error


def _start_worker(stack: ExitStack) -> tuple[IO[bytes], IO[bytes]]:
    """Start a process that `stack` ends, and return the pipes to and from it."""
    pipe, command = subprocess.PIPE, [sys.executable, "-P", "-c", _START]
    process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL)
    stack.enter_context(process)
    stack.callback(process.kill)
    assert process.stdin is not None and process.stdout is not None
    return process.stdin, process.stdout


def serve(job: dict[str, Any]) -> None:
    """Write the columns of each piece of a job to standard output; runs in a worker process.

    A line of JSON precedes them: the `count` of detections, or the `invalid` entry. An empty object
    means that the piece does not parse.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent process handles Ctrl-C
    gc.disable()  # it would scan thousands of entries again and again in vain
    known = KnownIds(job["image_ids"], job["category_ids"], job["file"])
    answers = sys.stdout.buffer
    with Path(job["path"]).open("rb") as file:
        for start, end in job["pieces"]:
            file.seek(start)
            columns: tuple[np.ndarray, ...] = ()
            try:
                columns = columns_of(parse_json(b"[%b]" % file.read(end - start)), known)
                header: dict[str, Any] = {"count": len(columns[0])}
            except InvalidEntryError as error:
                header = {"invalid": error.args}
            except (ValueError, RecursionError):
                header = {}
            answers.write(json.dumps(header).encode() + b"\n")
            for column in columns:
                answers.write(column.data)
            answers.flush()


def _receive(answers: IO[bytes], known: KnownIds) -> Columns:
    header = json.loads(answers.readline())
    if not isinstance(header, dict) or not header:
        raise NoPiecesError
    if "invalid" in header:
        raise InvalidEntryError(*header["invalid"])
    columns = []
    for empty in columns_of([], known):
        shape = (header["count"], *empty.shape[1:])
        content = answers.read(math.prod(shape) * empty.itemsize)
        columns.append(np.frombuffer(content, dtype=empty.dtype).reshape(shape))
    return Columns(*columns)
