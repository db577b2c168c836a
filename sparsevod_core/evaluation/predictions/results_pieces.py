"""Reads a large results file in pieces, each in one of several processes.

The file of ImageNet VID's validation set holds 17.6 million detections, a minute of parsing for one
process. It is cut where a comma stands between two braces. Should these be no entries' but stand
within one, or within a text, then the piece before is no list of whole entries and does not parse,
and whoever asked has to read the file from its beginning.

The processes are new ones that import no more than this module: forks of one that has started
threads or a GPU would not be safe, and `multiprocessing` would run the user's script again.
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
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np

from sparsevod_core.data.json_stream import parse_json
from sparsevod_core.evaluation.predictions.result_columns import (
    BrokenEntryError,
    Columns,
    KnownIds,
    columns_of,
)

PIECE_BYTES = 8 << 20
"""About 40 MB once it is Python objects."""

_BETWEEN_ENTRIES = re.compile(rb"\}([ \t\n\r]*,[ \t\n\r]*)\{")
_LONGEST_ENTRY = 1 << 16

_START = """
import json, sys
job = json.load(sys.stdin)
sys.path[:] = job["sys_path"]
from sparsevod_core.evaluation.predictions.results_pieces import serve
serve(job)
"""


class Piece(NamedTuple):
    """Bytes of a file that hold entries of its list, with the commas between them."""

    start: int
    end: int


class NoPiecesError(Exception):
    """The file cannot be read in pieces, though perhaps as a whole."""


def cut(path: Path) -> list[Piece]:
    """Pieces that together hold all entries of a list.

    Raises:
        NoPiecesError: the file does not begin and end as a list does.
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
        pieces = []
        for place in range(start + PIECE_BYTES, end - _LONGEST_ENTRY, PIECE_BYTES):
            file.seek(place)
            found = _BETWEEN_ENTRIES.search(file.read(_LONGEST_ENTRY))
            if found:
                pieces.append(Piece(start, place + found.start(1)))
                start = place + found.end(1)
    return [*pieces, Piece(start, end)]


def read_pieces(
    path: Path, pieces: Sequence[Piece], known: KnownIds, num_processes: int
) -> Iterator[Columns]:
    """The columns of each piece, in the file's order.

    Raises:
        BrokenEntryError: see `columns_of`; the position counts from the beginning of the piece.
        NoPiecesError: a piece does not parse, or a process was lost.
    """
    try:
        with ExitStack() as stack:
            workers = [stack.enter_context(_worker()) for _ in range(num_processes)]
            for first, (send, _) in enumerate(workers):
                job = _job(path, pieces[first::num_processes], known)
                send.write(json.dumps(job).encode())
                send.close()
            for position in range(len(pieces)):
                _, answers = workers[position % num_processes]
                yield _receive(answers, known)
    except (OSError, ValueError) as error:  # ValueError: an answer that breaks off
        raise NoPiecesError from error


@contextmanager
def _worker() -> Iterator[tuple[IO[bytes], IO[bytes]]]:
    """Pipes to and from a new process, which does not outlive the block."""
    with subprocess.Popen(
        [sys.executable, "-c", _START],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as process:
        assert process.stdin is not None and process.stdout is not None
        try:
            yield process.stdin, process.stdout
        finally:
            process.kill()


def _job(path: Path, pieces: Sequence[Piece], known: KnownIds) -> dict[str, Any]:
    return {
        "sys_path": sys.path,
        "path": str(path),
        "pieces": pieces,
        "image_ids": list(known.images),
        "category_ids": list(known.categories),
        "file": known.file,
    }


def serve(job: dict[str, Any]) -> None:
    """In a process of its own: write the columns of each piece of a job to standard output.

    Before them goes a line of JSON: how many detections they hold, or which entry is `broken`. An
    empty object says that the piece does not parse.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # whoever asked decides what Ctrl-C means
    gc.disable()  # it would look through thousands of entries again and again, and find nothing
    known = KnownIds.of_lists(job["image_ids"], job["category_ids"], job["file"])
    answers = sys.stdout.buffer
    with Path(job["path"]).open("rb") as file:
        for start, end in job["pieces"]:
            file.seek(start)
            columns: tuple[np.ndarray, ...] = ()
            try:
                columns = columns_of(parse_json(b"[%b]" % file.read(end - start)), known)
                header: dict[str, Any] = {"count": len(columns[0])}
            except BrokenEntryError as error:
                header = {"broken": [error.position, error.reason]}
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
    if "broken" in header:
        raise BrokenEntryError(*header["broken"])
    columns = []
    for empty in columns_of([], known):
        shape = (header["count"], *empty.shape[1:])
        text = answers.read(math.prod(shape) * empty.itemsize)
        columns.append(np.frombuffer(text, dtype=empty.dtype).reshape(shape))
    return Columns(*columns)
