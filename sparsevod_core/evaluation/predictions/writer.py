"""Writing of a COCO results file by a run that can be interrupted at any time and resumed.

Until the file is complete, each process of the run keeps a journal beside it: `NAME.partial`,
`NAME.partial.1` and so on. Its first line holds the settings of the run. Every other line is a
frame, `[image_id, entry, entry, ...]`, without entries if nothing was detected. A line is passed to
the operating system before the next frame starts, and is on the disk when its video is finished. A
line cut off by a kill is discarded. Complete journals are joined into the file and deleted.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
from jaxtyping import Float

from sparsevod_core.data.json_fields import Id
from sparsevod_core.errors import ConfigError, DataError

SCHEMA = "sparsevod.predictions/1"


class FramePredictions(NamedTuple):
    """The detections of one frame in the terms of a results file."""

    image_id: int
    boxes_xywh: Float[np.ndarray, "M 4"]
    scores: Float[np.ndarray, " M"]
    category_ids: Sequence[Id]


class PredictionsWriter:
    """Writes a results file in one process or several; a context manager.

    Rank 0 calls `begin` before any process enters the block, and `complete` after all have left it.

    Args:
        path: The results file; it appears when complete.
        videos: Image ids of every video, in the order of the file.
        made_by: Everything that the detections depend on, by name. Only a run with the same values
            can be resumed.
        rank: Rank of this process, from 0.
    """

    def __init__(
        self, path: Path, videos: Sequence[Sequence[int]], made_by: Mapping[str, Any], rank: int = 0
    ) -> None:
        self.path = path
        self._partial = path.with_name(path.name + ".partial")
        self._journal = path.with_name(self._partial.name + f".{rank}") if rank else self._partial
        self._videos = videos
        self._last_ids = {ids[-1] for ids in videos}
        self._header = json.loads(json.dumps({"schema": SCHEMA, **made_by}))
        self._file: IO[bytes] | None = None
        self._is_empty = True

    def begin(self, *, resume: bool = False) -> list[FramePredictions]:
        """Return the frames of finished videos, and remove all others from the journals.

        Raises:
            ConfigError: There are journals but not `resume`, they are from a run with other
                settings, or the file is already complete.
            DataError: A file with a journal's name is not a journal.
        """
        journals = self._journals()
        if journals and not resume:
            raise ConfigError(
                f"{journals[0]} is from an interrupted evaluation",
                hint="use --resume to continue it, or delete the file to start again",
            )
        if resume and not journals and self.path.exists():
            raise ConfigError(
                f"{self.path} is already complete: nothing to resume",
                hint=f"use --from-predictions {self.path} to score it without a model",
            )
        video_of = {id_: video for video, ids in enumerate(self._videos) for id_ in ids}
        return [frame for journal in journals for frame in self._recover(journal, video_of)]

    def __enter__(self) -> PredictionsWriter:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self._journal.open("ab")
        except OSError as error:
            raise DataError(f"{self._journal}: cannot write: {error.strerror}") from error
        self._is_empty = self._file.tell() == 0
        if self._is_empty:
            self._file.write(_line(self._header))
        return self

    def write(self, frame: FramePredictions) -> None:
        """Append the detections of a frame at full precision.

        The frames of a video are written one after another by the same process.
        """
        assert self._file is not None, "used outside its `with` block"
        columns = zip(
            frame.category_ids, frame.boxes_xywh.tolist(), frame.scores.tolist(), strict=True
        )
        entries = [
            {"image_id": frame.image_id, "category_id": id_, "bbox": box, "score": score}
            for id_, box, score in columns
        ]
        self._file.write(_line([frame.image_id, *entries]))
        self._file.flush()
        self._is_empty = False
        if frame.image_id in self._last_ids:
            os.fsync(self._file.fileno())

    def __exit__(self, *_: object) -> None:
        assert self._file is not None
        self._file.close()
        if self._is_empty:
            self._journal.unlink()  # nothing to resume

    def complete(self) -> None:
        """Join the journals into the file, with one line for each frame that has detections."""
        joining = self.path.with_name(self.path.name + ".joining")
        with ExitStack() as files:
            journals = [files.enter_context(path.open("rb")) for path in self._journals()]
            frame_at = {id_: (journal, at) for journal in journals for id_, at in _places(journal)}
            results = files.enter_context(joining.open("wb"))
            results.write(b"[\n")
            separator = b""
            for image_id in (id_ for ids in self._videos for id_ in ids):
                journal, at = frame_at[image_id]
                journal.seek(at)
                if entries := _split(journal.readline())[1]:
                    results.write(separator + entries)
                    separator = b",\n"
            results.write(b"\n]\n")
            results.flush()
            os.fsync(results.fileno())
        joining.replace(self.path)
        for path in self._journals():
            path.unlink()

    def _journals(self) -> list[Path]:
        """Return the journals of all processes of earlier runs and this one."""
        name = re.compile(re.escape(self._partial.name) + r"(\.\d+)?")
        return sorted(path for path in self.path.parent.glob("*") if name.fullmatch(path.name))

    def _recover(self, journal: Path, video_of: Mapping[int, int]) -> list[FramePredictions]:
        """Return the frames of a journal's finished videos, and truncate it after them."""
        finished: list[FramePredictions] = []
        unfinished: list[FramePredictions] = []
        with journal.open("r+b") as file:
            end = self._check_header(journal, file.readline())
            while line := file.readline():
                frame = _frame(line)
                if frame is None or frame.image_id not in video_of:
                    break
                unfinished.append(frame)
                ids = self._videos[video_of[frame.image_id]]
                if len(unfinished) == len(ids):
                    if {one.image_id for one in unfinished} != set(ids):
                        break
                    finished += unfinished
                    unfinished = []
                    end = file.tell()
            file.truncate(end)
        return finished

    def _check_header(self, journal: Path, line: bytes) -> int:
        """Return the length of the first line, 0 if it was cut off."""
        if not line.endswith(b"\n") and _line(self._header).startswith(line):
            return 0
        try:
            header = json.loads(line)
        except (ValueError, RecursionError):
            header = None
        if not isinstance(header, dict) or header.get("schema") != SCHEMA:
            raise DataError(
                f"{journal}: not written by `sparsevod eval`, which needs this name for unfinished "
                "predictions",
                hint="rename it, or choose another name for --save-predictions",
            )
        for name in self._header | header:
            was, now = header.get(name), self._header.get(name)
            if was != now:
                raise ConfigError(
                    f"{journal} was made with {name} {was}, which is {now} now",
                    hint="--resume needs the settings of the interrupted run; delete the file to "
                    "start again",
                )
        return len(line)


def _line(value: Any) -> bytes:
    return json.dumps(value).encode() + b"\n"


def _frame(line: bytes) -> FramePredictions | None:
    """Parse a journal's line; None if it was cut off or damaged."""
    if not line.endswith(b"]\n") or not line.isascii():
        return None
    try:
        image_id, *entries = json.loads(line)
        boxes = np.array([entry["bbox"] for entry in entries], dtype=np.float64)
        scores = np.array([entry["score"] for entry in entries], dtype=np.float64)
        category_ids = [entry["category_id"] for entry in entries]
    except (ValueError, TypeError, LookupError, OverflowError, RecursionError):
        return None
    count = len(entries)
    is_frame = boxes.shape == ((count, 4) if count else (0,)) and scores.shape == (count,)
    is_frame &= bool(np.isfinite(boxes).all() and np.isfinite(scores).all())
    is_frame &= {*map(type, category_ids), type(image_id)} <= {int, str}
    if not is_frame:
        return None
    return FramePredictions(image_id, boxes.reshape(-1, 4), scores, category_ids)


def _split(line: bytes) -> tuple[Any, bytes]:
    """Return the image id and the entries, as written, of a frame's complete line."""
    image_id, end = json.JSONDecoder().raw_decode(line.decode("ascii"), 1)
    return image_id, line[end:-2].removeprefix(b", ")


def _places(journal: IO[bytes]) -> Iterator[tuple[Any, int]]:
    """Yield the image id and byte offset of each frame."""
    at = len(journal.readline())
    while line := journal.readline():
        yield _split(line)[0], at
        at += len(line)
