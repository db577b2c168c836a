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
import pickle
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, NamedTuple

from sparsevod_core.evaluation.result_columns import Columns, KnownIds, columns_of

PIECE_BYTES = 8 << 20
"""About 40 MB once it is Python objects."""

_BETWEEN_ENTRIES = re.compile(rb"\}([ \t\n\r]*,[ \t\n\r]*)\{")
_LONGEST_ENTRY = 1 << 16

_START = """
import pickle, sys
sys.path[:] = pickle.load(sys.stdin.buffer)
from sparsevod_core.evaluation.results_pieces import serve
serve()
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
    shares = [pieces[first::num_processes] for first in range(num_processes)]
    try:
        with ExitStack() as stack:
            workers = [stack.enter_context(_worker()) for _ in shares]
            for (send, _), share in zip(workers, shares, strict=True):
                pickle.dump(sys.path, send)
                pickle.dump((path, share, known), send)
                send.close()
            for position in range(len(pieces)):
                _, receive = workers[position % num_processes]
                answer = pickle.load(receive)
                if isinstance(answer, Exception):
                    raise answer
                yield answer
    except (OSError, EOFError, pickle.UnpicklingError) as error:
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


def serve() -> None:
    """In a process of its own: answer with the columns of each piece that standard input names."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # whoever asked decides what Ctrl-C means
    gc.disable()  # it would look through thousands of entries again and again, and find nothing
    path, pieces, known = pickle.load(sys.stdin.buffer)
    with path.open("rb") as file:
        for piece in pieces:
            try:
                answer: Columns | Exception = columns_of(_entries(file, piece), known)
            except Exception as error:
                answer = error
            pickle.dump(answer, sys.stdout.buffer, protocol=pickle.HIGHEST_PROTOCOL)
            sys.stdout.buffer.flush()


def _entries(file: IO[bytes], piece: Piece) -> list:
    file.seek(piece.start)
    try:
        return json.loads(b"[" + file.read(piece.end - piece.start) + b"]")
    except (ValueError, RecursionError) as error:
        raise NoPiecesError from error
