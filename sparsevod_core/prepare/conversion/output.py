"""Output file of a conversion, and the journal from which an interrupted run resumes.

`NAME.json.partial.journal` starts with a line of JSON that identifies what the conversion is made
from. One line follows per finished video, written after its records are in the partial files.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol, Self

from sparsevod_core.files.check import require_own
from sparsevod_core.files.kinds import starting
from sparsevod_core.files.lock import locked
from sparsevod_core.files.names import beside, cannot_write
from sparsevod_core.prepare.conversion.coco_vid import (
    OWN_JSON,
    CocoVidWriter,
    Position,
    SerializedVideo,
    partial_files,
    require_own_parts,
)
from sparsevod_core.prepare.conversion.counts import Counts, Example


class Named(Protocol):
    """A video, or a folder of still images, before it is read."""

    @property
    def name(self) -> str: ...


@dataclass(frozen=True, slots=True)
class Origin:
    """Sources of a conversion, to tell whether the work of an earlier run is still valid.

    Attributes:
        key: Text that differs if the output would: folders, lists, options, classes.
        last_change: Returns when a source last changed, in any unit. If the flag is True, each of
            its files is checked, because broken files are repaired in place.
    """

    key: str
    last_change: Callable[[Any, bool], int]


@dataclass(frozen=True, slots=True)
class Finished:
    """A video whose records are written.

    Attributes:
        last_change: Time of the last change of its files when they were read.
        counts: What it adds to the split.
        video: `SerializedVideo.video`.
        position: Position in the partial files behind its records.
    """

    last_change: int
    counts: Counts
    video: str | None
    position: Position


class ConversionOutput:
    """Context manager that writes a COCO-VID file.

    If the block raises, finished work is kept in partial files beside the output. It is removed if
    there is no origin to compare with, or no frame in it.

    Args:
        file: Output file; its folder is created.
        sources: All videos of the conversion, in order.
        origin: What the conversion is made from; None to never resume.

    Attributes:
        finished: Work of an earlier run on the first sources that is still valid.
        num_outdated: Number of videos that an earlier run finished and that are no longer valid.
        is_kept: True after the block if it failed and its finished work is kept.

    Raises:
        ConfigError: There is a file of another kind, or one with a name that is needed.
        DataError: Another process is writing the file, or it cannot be written.
    """

    def __init__(
        self,
        file: Path,
        *,
        info: Mapping[str, Any],
        categories: Sequence[Mapping[str, Any]],
        sources: Sequence[Named],
        origin: Origin | None,
    ) -> None:
        require_own(file, OWN_JSON)
        self._file = file
        self._journal: Journal | None = None
        self.finished: Sequence[Finished] = ()
        self.num_outdated = 0
        self.is_kept = False
        with ExitStack() as lock:
            lock.enter_context(locked([file]))
            place = Path(os.path.realpath(file))
            with self._reported():
                self._begin(place, info, categories, sources, origin)
            self._lock = lock.pop_all()

    def _begin(
        self,
        file: Path,
        info: Mapping[str, Any],
        categories: Sequence[Mapping[str, Any]],
        sources: Sequence[Named],
        origin: Origin | None,
    ) -> None:
        require_own_parts(file, has_journal=Journal.is_there(file))
        if origin is not None:
            made_from = json.dumps([info, categories, origin.key, [s.name for s in sources]])
            self._journal = Journal(file, hashlib.sha256(made_from.encode()).hexdigest())
            earlier = self._journal.finished
            self.finished = earlier[: _num_unchanged(earlier, sources, origin, file)]
            self.num_outdated = self._journal.num_outdated + len(earlier) - len(self.finished)
            self._journal.truncate(len(self.finished))
        self._writer = CocoVidWriter(
            file,
            info=info,
            categories=categories,
            start=self.finished[-1].position if self.finished else None,
            videos=[entry.video for entry in self.finished if entry.video is not None],
        )

    def add(self, video: SerializedVideo, counts: Counts, last_change: int) -> None:
        """Write the next video.

        Raises:
            DataError: The file cannot be written.
        """
        with self._reported():
            self._writer.add(video)
            if self._journal is not None:
                self._journal.add(Finished(last_change, counts, video.video, self._writer.position))

    @contextmanager
    def _reported(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise cannot_write(self._file, error) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        is_complete = False
        try:
            if kind is None:
                with self._reported():
                    self._writer.finish()
                is_complete = True
        finally:
            has_frames = self._writer.position.num_images > 0
            self.is_kept = not is_complete and self._journal is not None and has_frames
            with self._lock:
                self._writer.close(keep_partial=self.is_kept)
                if self._journal is not None:
                    self._journal.close(remove=not self.is_kept)


def _num_unchanged(
    earlier: Sequence[Finished], sources: Sequence[Named], origin: Origin, file: Path
) -> int:
    """Return how many of the first finished videos are still valid."""
    images, annotations = (
        part.stat().st_size if part.is_file() else -1 for part in partial_files(file)
    )
    for number, (entry, source) in enumerate(zip(earlier, sources, strict=False)):
        if (
            entry.position.image_bytes > images
            or entry.position.annotation_bytes > annotations
            or entry.last_change != origin.last_change(source, bool(entry.counts.problems))
        ):
            return number
    return len(earlier)


class Journal:
    """Journal of one output file.

    Attributes:
        finished: Videos that an earlier run finished with the same `made_from`, in order.
        num_outdated: Number of videos that it finished with another `made_from`.

    Raises:
        OSError: The journal cannot be written.
    """

    def __init__(self, output: Path, made_from: str) -> None:
        self._path = beside(output, ".partial.journal")
        self._file = self._path.open("a+b")
        self._file.seek(0)
        header, *lines = self._file.read().splitlines(keepends=True) or [b""]
        self._header = _line({"made_from": made_from})
        self._ends = [len(self._header)]  # bytes up to the end of the header and of each video
        self.finished: list[Finished] = []
        self.num_outdated = 0
        if header != self._header:
            self.num_outdated = len(lines)
            return
        for line in lines:
            try:
                self.finished.append(_parse(line))
            except (ValueError, TypeError, LookupError, AttributeError, RecursionError):
                break  # cut off by the interruption
            self._ends.append(self._ends[-1] + len(line))

    @staticmethod
    def is_there(output: Path) -> bool:
        """Return True if there is a journal, and raise a ConfigError if it is something else."""
        path = beside(output, ".partial.journal")
        require_own(path, starting("a journal of a conversion", rb'\{"made_from": '))
        return path.exists()

    def truncate(self, num_finished: int) -> None:
        """Drop all but the first videos; must be called once, before `add`."""
        self.finished = self.finished[:num_finished]
        self._file.truncate(self._ends[num_finished] if num_finished else 0)
        if not num_finished:
            self._write(self._header)

    def add(self, entry: Finished) -> None:
        """Record one more video, whose records are already written."""
        self._write(_line(asdict(entry)))

    def close(self, *, remove: bool) -> None:
        """Close the file; remove it if the output is complete or nothing is finished."""
        if remove:
            self._path.unlink(missing_ok=True)
        with suppress(OSError):  # of a full disk, which has raised an error already
            self._file.close()

    def _write(self, line: bytes) -> None:
        self._file.write(line)
        self._file.flush()


def _line(value: Any) -> bytes:
    return json.dumps(value).encode("ascii") + b"\n"


def _parse(line: bytes) -> Finished:
    if not line.endswith(b"\n"):
        raise ValueError
    entry = json.loads(line)
    counts, position = Counts(**entry.pop("counts")), Position(**entry.pop("position"))
    for made in (counts, position):
        for name, default in asdict(type(made)()).items():
            if default is not None and type(getattr(made, name)) is not type(default):
                raise TypeError(name)
    if counts.example is not None:
        counts.example = Example(**counts.example)  # type: ignore[arg-type]
    return Finished(**entry, counts=counts, position=position)
