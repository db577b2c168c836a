"""Journal of a run: detections on disk, frame by frame, from which `--resume` continues."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import numpy as np

from sparsevod_core.errors import ConfigError, DataError
from sparsevod_core.structures import Detections

SCHEMA = "sparsevod.journal/1"


class Journal:
    """A header line for the run, then a line for each frame.

    Lines are flushed as they are written, so that a killed run loses at most the last frame.
    Numbers are stored exactly: detections read back are identical. Use it as a context manager;
    the file stays until `remove`.

    Args:
        path: Path of the file.
        run: Values that determine the detections, such as model and settings.
        resume: Continue with an existing journal.

    Attributes:
        num_frames: Number of frames in the journal: the first ones of the video.

    Raises:
        ConfigError: A journal exists, and `resume` is False or it belongs to another run.
        DataError: The file cannot be read or written.
    """

    def __init__(self, path: Path, run: dict[str, Any], *, resume: bool) -> None:
        self.path = path
        self.num_frames = 0
        header = {"schema": SCHEMA, **run}
        try:
            if path.exists():
                if not resume:
                    raise ConfigError(
                        f"{path}: left by a run that was cut off",
                        hint="use --resume to continue that run, or remove the file",
                    )
                num_bytes = self._check(header)
                self._file: IO[str] = path.open("r+", encoding="utf-8")
                self._file.seek(num_bytes)
                self._file.truncate()
            else:
                path.parent.mkdir(parents=True, exist_ok=True)
                self._file = path.open("w", encoding="utf-8")
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

    def __iter__(self) -> Iterator[Detections]:
        """Yield the detections of the first `num_frames` frames, read one by one."""
        count = self.num_frames
        with self.path.open(encoding="utf-8") as file:
            next(file)
            for _, line in zip(range(count), file, strict=False):
                yield _detections(json.loads(line))

    def remove(self) -> None:
        """Remove the file once the outputs are complete."""
        self._file.close()
        self.path.unlink(missing_ok=True)

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._file.close()
        if self.num_frames == 0:  # nothing to resume from
            self.path.unlink(missing_ok=True)

    def _append(self, entry: Any) -> None:
        self._file.write(json.dumps(entry, allow_nan=False) + "\n")
        self._file.flush()

    def _check(self, expected: dict[str, Any]) -> int:
        """Check the header and count the frames; return the position after the last full line."""
        with self.path.open("rb") as file:
            try:
                header = json.loads(file.readline())
            except ValueError:
                header = None
            if not isinstance(header, dict) or header.get("schema") != SCHEMA:
                raise ConfigError(
                    f"{self.path}: not a journal of detections",
                    hint="remove the file, or choose another -o",
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
                    _detections(json.loads(line))
                except (ValueError, TypeError):
                    break  # the run was killed while writing this line
                if not line.endswith(b"\n"):
                    break
                self.num_frames += 1
                end += len(line)
            return end

    def _failure(self, error: OSError) -> DataError:
        return DataError(f"{self.path}: cannot write the journal: {error.strerror}")


def _detections(entry: Any) -> Detections:
    boxes, scores, labels = entry
    return Detections(
        np.array(boxes, np.float32).reshape(-1, 4),
        np.array(scores, np.float32),
        np.array(labels, np.int64),
    )
