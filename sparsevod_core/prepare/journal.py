"""Remembers which videos a conversion has finished, so that a second run after Ctrl-C goes on.

`NAME.json.partial.journal` is a line of JSON that says what the conversion is made from, and one
more for each finished video, written after its records are in the partial files.
"""

from __future__ import annotations

import fcntl
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO

from sparsevod_core.errors import DataError
from sparsevod_core.prepare.coco_vid import Position
from sparsevod_core.prepare.rendered_video import Counts


@dataclass(frozen=True, slots=True)
class Finished:
    """A video that is written.

    Attributes:
        last_change: of its files, when they were read.
        counts: what it added.
        video: `RenderedVideo.video`.
        position: of the partial files behind it.
    """

    last_change: int
    counts: Counts
    video: str | None
    position: Position


class Journal:
    """The journal of one output file, held by one process at a time.

    Args:
        output: the file that is converted to; its folder is there.
        made_from: whatever leads to another output: options, lists, classes, version.

    Attributes:
        finished: the videos that an earlier run made from the same, in order.
        num_outdated: how many it had finished, if it was made from something else.

    Raises:
        DataError: another process holds it.
        OSError: it cannot be written.
    """

    def __init__(self, output: Path, made_from: str) -> None:
        self._path = output.with_name(f"{output.name}.partial.journal")
        self._file = self._path.open("a+b")
        _lock(self._file, output)
        self._file.seek(0)
        written = self._file.read().splitlines(keepends=True)
        self._header = _line({"made_from": made_from})
        self.num_outdated = 0
        self.finished: list[Finished] = []
        self._ends = [0]  # of the header and what is finished, in bytes
        if written[:1] == [self._header]:
            self._ends = [len(self._header)]
            self._parse(written[1:])
        else:
            self.num_outdated = max(0, len(written) - 1)

    def _parse(self, lines: Sequence[bytes]) -> None:
        for line in lines:
            try:
                self.finished.append(_finished(line))
            except (ValueError, TypeError, KeyError, AttributeError):  # the last one, cut off
                return
            self._ends.append(self._ends[-1] + len(line))

    def keep(self, num_finished: int) -> None:
        """Forget all but the first ones; to be called once, before `add`."""
        self.finished = self.finished[:num_finished]
        if num_finished:
            self._file.truncate(self._ends[num_finished])
        else:
            self._file.truncate(0)
            self._write(self._header)

    def add(self, entry: Finished) -> None:
        """Remember one more, whose records the system already has."""
        self._write(_line(asdict(entry)))

    def close(self, *, remove: bool) -> None:
        """Let go of the file; it has served when the output is complete, or nothing is finished."""
        if remove:
            self._path.unlink(missing_ok=True)
        self._file.close()

    def _write(self, line: bytes) -> None:
        self._file.write(line)
        self._file.flush()


def _lock(file: BinaryIO, output: Path) -> None:
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        file.close()
        raise DataError(f"{output}: another process is writing it at this moment") from None
    except OSError:  # some network file systems have no locks
        pass


def _line(value: Any) -> bytes:
    return json.dumps(value).encode("ascii") + b"\n"


def _finished(line: bytes) -> Finished:
    if not line.endswith(b"\n"):
        raise ValueError
    entry = json.loads(line)
    counts, position = Counts(**entry.pop("counts")), Position(**entry.pop("position"))
    return Finished(**entry, counts=counts, position=position)
