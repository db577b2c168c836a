"""What a run over a video has found so far, on disk frame by frame: `--resume` goes on from it."""

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
    """A line for the run, then one for each frame, flushed at once: a kill loses the last at most.

    Numbers are exact: what is made of a journal equals what is made of the detections themselves.
    Use it as a context manager; it stays until `remove`.

    Args:
        path: the file.
        run: what tells this run from others that give other detections.
        resume: go on with the journal that is there, if there is one.

    Attributes:
        num_frames: frames in it: the first ones of the video.

    Raises:
        ConfigError: a journal that is there without `resume`, or is of another run.
        DataError: it cannot be read or written.
    """

    def __init__(self, path: Path, run: dict[str, Any], *, resume: bool) -> None:
        self.path = path
        self.num_frames = 0
        header = {"schema": SCHEMA, **run}
        try:
            if path.exists():
                if not resume:
                    raise ConfigError(
                        f"{path}: a run was cut off here",
                        hint="--resume goes on with it; or remove that file",
                    )
                whole_bytes = self._check(header)
                self._file: IO[str] = path.open("r+", encoding="utf-8")
                self._file.seek(whole_bytes)
                self._file.truncate()
            else:
                path.parent.mkdir(parents=True, exist_ok=True)
                self._file = path.open("w", encoding="utf-8")
                self._append(header)
        except OSError as error:
            raise self._failure(error) from error

    def write(self, detections: Detections) -> None:
        """Append those of the next frame.

        Raises:
            DataError: it cannot be written.
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
        """The detections of the first `num_frames` frames, read as they are asked for."""
        count = self.num_frames
        with self.path.open(encoding="utf-8") as file:
            next(file)
            for _, line in zip(range(count), file, strict=False):
                yield _detections(json.loads(line))

    def remove(self) -> None:
        """The outputs are complete: nothing to go on with."""
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
        if self.num_frames == 0:  # nothing that a run could go on with
            self.path.unlink(missing_ok=True)

    def _append(self, entry: Any) -> None:
        self._file.write(json.dumps(entry, allow_nan=False) + "\n")
        self._file.flush()

    def _check(self, wanted: dict[str, Any]) -> int:
        """Count the frames; returns where the last whole line ends."""
        with self.path.open("rb") as file:
            try:
                there = json.loads(file.readline())
            except ValueError:
                there = None
            if not isinstance(there, dict) or there.get("schema") != SCHEMA:
                raise ConfigError(
                    f"{self.path}: is no journal of detections", hint="remove it, or use another -o"
                )
            differing = [key for key in wanted if there.get(key) != wanted[key]]
            if differing:
                key = differing[0]
                before, now = there.get(key), wanted[key]
                raise ConfigError(
                    f"{self.path}: was made with {key} {before}, this run has {now}",
                    hint="give the same video, model and settings, or remove that file",
                )
            end = file.tell()
            for line in file:
                try:
                    _detections(json.loads(line))
                except (ValueError, TypeError):
                    break  # the line that was being written
                if not line.endswith(b"\n"):
                    break
                self.num_frames += 1
                end += len(line)
            return end

    def _failure(self, error: OSError) -> DataError:
        return DataError(f"{self.path}: cannot keep the detections: {error.strerror}")


def _detections(entry: Any) -> Detections:
    boxes, scores, labels = entry
    return Detections(
        np.array(boxes, np.float32).reshape(-1, 4),
        np.array(scores, np.float32),
        np.array(labels, np.int64),
    )
