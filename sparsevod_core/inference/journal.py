"""Journal of a run: detections on disk, frame by frame, from which `--resume` continues."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import numpy as np

from sparsevod_core.errors import ConfigError, DataError
from sparsevod_core.files.names import cannot_write
from sparsevod_core.structures import Detections

SCHEMA = "sparsevod.journal/1"


class Journal:
    """A header line for the run, then a line for each frame.

    Lines are flushed as they are written, so that a killed run loses at most the last frame.
    Numbers are stored exactly: detections read back are identical. Use it as a context manager
    around that of the outputs: the file is removed when all of them have got their names.

    Args:
        path: Path of the file.
        run: Values that determine the detections, such as model and settings.
        resume: Continue with an existing journal.
        num_classes: Number of classes of the model, by which labels are checked.

    Attributes:
        num_frames: Number of frames in the journal: the first ones of the video.
        published: Names of outputs that this run may have written already.

    Raises:
        ConfigError: A journal exists, and `resume` is False or it belongs to another run; or the
            file is no journal.
        DataError: The file cannot be read or written.
    """

    def __init__(
        self, path: Path, run: dict[str, Any], *, resume: bool, num_classes: int | None = None
    ) -> None:
        self.path = path
        self._num_classes = num_classes
        # The path may lead through a folder that does not exist.
        self._place = place = Path(os.path.realpath(path))
        self.num_frames = 0
        self.published: set[str] = set()
        self._is_needed = True
        header = {"schema": SCHEMA, **run}
        try:
            if place.exists():
                num_bytes = self._check(header, resume=resume)
                self._file: IO[str] = place.open("r+", encoding="utf-8")
                self._file.seek(num_bytes)
                self._file.truncate()
                if num_bytes == 0:  # killed while the header was written
                    self._append(header)
            else:
                place.parent.mkdir(parents=True, exist_ok=True)
                self._file = place.open("x", encoding="utf-8")
                self._append(header)
        except OSError as error:
            raise self._failure(error) from error

    def write(self, detections: Detections) -> None:
        """Append the detections of the next frame.

        Raises:
            DataError: The file cannot be written.
        """
        try:
            self._append(
                [
                    detections.boxes_xyxy.tolist(),
                    detections.scores.tolist(),
                    detections.labels.tolist(),
                ]
            )
        except OSError as error:
            raise self._failure(error) from error
        self.num_frames += 1

    def publish(self, paths: Iterable[Path], *, is_last: bool) -> None:
        """Record that these outputs are about to get their names.

        Args:
            paths: All outputs.
            is_last: Whether they are complete, so that the journal is not needed after that.

        Raises:
            DataError: The file cannot be written.
        """
        self.published |= {path.name for path in paths}
        try:
            self._append({"published": sorted(self.published)})
        except OSError as error:
            raise self._failure(error) from error
        self._is_needed = not is_last

    def __iter__(self) -> Iterator[Detections]:
        """Yield the detections of the first `num_frames` frames, read one by one."""
        count = self.num_frames
        with self._place.open(encoding="utf-8") as file:
            next(file)
            frames = (entry for entry in map(json.loads, file) if isinstance(entry, list))
            for _, entry in zip(range(count), frames, strict=False):
                yield _detections(entry)

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        with suppress(OSError):  # of a full disk, which has raised an error already
            self._file.close()
        is_done = kind is None and not self._is_needed
        if is_done or self.num_frames == 0:  # nothing to resume from
            self._place.unlink(missing_ok=True)

    def _append(self, entry: Any) -> None:
        self._file.write(_line(entry))
        self._file.flush()

    def _check(self, expected: dict[str, Any], *, resume: bool) -> int:
        """Check the header and count the frames; return the position after the last full line."""
        if not self._place.is_file():
            raise self._is_no_journal()
        with self._place.open("rb") as file:
            line = file.readline()
            is_cut = not line.endswith(b"\n")
            if is_cut and _line(expected).encode().startswith(line):
                return 0
            try:
                header = json.loads(line)
            except (ValueError, RecursionError):
                header = None
            if not isinstance(header, dict) or header.get("schema") != SCHEMA:
                raise self._is_no_journal()
            if not resume:
                raise ConfigError(
                    f"{self.path}: left by a run that was cut off",
                    hint="use --resume to continue that run, or remove the file",
                )
            for key, value in expected.items():
                if header.get(key) != value:
                    raise ConfigError(
                        f"{self.path}: the journal was made with {key} {header.get(key)}, "
                        f"this run has {value}",
                        hint="use the same video, model and settings, or remove the file",
                    )
            end = file.tell()
            for line in file:
                try:
                    entry = json.loads(line)
                    if isinstance(entry, dict):
                        self.published |= set(map(str, entry["published"]))
                    else:
                        _detections(entry, self._num_classes)
                except (ValueError, TypeError, LookupError, OverflowError, RecursionError):
                    break  # the run was killed while writing this line
                if not line.endswith(b"\n"):
                    break
                self.num_frames += isinstance(entry, list)
                end += len(line)
            return end

    def _is_no_journal(self) -> ConfigError:
        return ConfigError(
            f"{self.path}: not a journal of detections, which needs this name",
            hint="rename the file, or choose another -o",
        )

    def _failure(self, error: OSError) -> DataError:
        return cannot_write(self.path, error)


def _line(entry: Any) -> str:
    return json.dumps(entry, allow_nan=False) + "\n"


def _detections(entry: Any, num_classes: int | None = None) -> Detections:
    """Return the detections of a line; errors of several types if it is damaged."""
    boxes, scores, labels = entry
    found = Detections(
        np.array(boxes, np.float32).reshape(-1, 4),
        np.array(scores, np.float32),
        np.array(labels, np.int64),
    )
    if not (np.isfinite(found.boxes_xyxy).all() and np.isfinite(found.scores).all()):
        raise ValueError("expected finite numbers")
    if num_classes is not None and not ((found.labels >= 0) & (found.labels < num_classes)).all():
        raise ValueError("expected labels of the model's classes")
    return found
