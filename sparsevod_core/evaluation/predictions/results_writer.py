"""A COCO results file, written so that a run that is cut off at any moment can go on.

While the run lasts, each of its processes keeps a journal beside the file: `NAME.partial`,
`NAME.partial.1` and so on. The first line says what made it, every other line is a frame:
`[image_id, entry, entry, ...]`, without entries where nothing was found. A line is handed to the
system before the next frame is begun and is on the disk when its video is finished; what a kill
tears off is done again. Complete journals are joined, and go once the file is there.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import IO, Any, NamedTuple

import numpy as np
from jaxtyping import Float

from sparsevod_core.data.json_fields import Id
from sparsevod_core.errors import ConfigError, DataError

SCHEMA = "sparsevod.predictions/1"


class FrameResults(NamedTuple):
    """The detections of one frame as a results file states them."""

    image_id: int
    boxes_xywh: Float[np.ndarray, "M 4"]
    scores: Float[np.ndarray, " M"]
    category_ids: Sequence[Id]


class ResultsWriter:
    """Writes a results file in one process or several; a context manager.

    Rank 0 calls `begin` before any process enters the block, and `complete` after all left it.

    Args:
        path: the results file; it appears when it is complete.
        videos: the image ids of every video, in the order that the file will have.
        made_by: what the detections depend on, by name; a run goes on only where all is equal.
        rank: of this process among those that write, from 0.
    """

    def __init__(
        self,
        path: Path,
        videos: Sequence[Sequence[int]],
        made_by: Mapping[str, Any],
        *,
        rank: int = 0,
    ) -> None:
        self.path = path
        self._partial = path.with_name(path.name + ".partial")
        self._journal = path.with_name(self._partial.name + f".{rank}") if rank else self._partial
        self._videos = videos
        self._last_ids = {ids[-1] for ids in videos}
        self._header = json.loads(json.dumps({"schema": SCHEMA, **made_by}))
        self._file: IO[bytes] | None = None
        self._is_empty = True

    def begin(self, *, resume: bool = False) -> list[FrameResults]:
        """The frames of the videos that are finished; of any other the journals are cleared.

        Raises:
            ConfigError: there is something to go on with and not `resume`, or it was made by
                something else; or the file is complete already.
            DataError: a file under a journal's name that is none.
        """
        journals = self._journals()
        if journals and not resume:
            raise ConfigError(
                f"{journals[0]} is of an evaluation that was cut off",
                hint="--resume goes on with it; delete it to start anew",
            )
        if resume and not journals and self.path.exists():
            raise ConfigError(
                f"{self.path} is complete: there is nothing to go on with",
                hint=f"--from-predictions {self.path} scores it, without a model",
            )
        video_of = {id_: video for video, ids in enumerate(self._videos) for id_ in ids}
        return [frame for journal in journals for frame in self._go_on(journal, video_of)]

    def __enter__(self) -> ResultsWriter:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self._journal.open("ab")
        except OSError as error:
            raise DataError(f"{self._journal}: cannot write: {error.strerror}") from error
        self._is_empty = self._file.tell() == 0
        if self._is_empty:
            self._file.write(_line(self._header))
        return self

    def write(self, frame: FrameResults) -> None:
        """Append the detections of a frame, to the last digit as they are.

        The frames of a video come one after another, all in the same process.
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

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        assert self._file is not None
        self._file.close()
        if self._is_empty:
            self._journal.unlink()  # nothing to go on with

    def complete(self) -> None:
        """Join the journals: a line for each frame in which something was found."""
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
                _, _, entries = journal.readline()[1:-2].partition(b", ")
                if entries:
                    results.write(separator + entries)
                    separator = b",\n"
            results.write(b"\n]\n")
            results.flush()
            os.fsync(results.fileno())
        joining.replace(self.path)
        for path in self._journals():
            path.unlink()

    def _journals(self) -> list[Path]:
        """Those that are there, however many processes left them."""
        if not self.path.parent.is_dir():
            return []
        stem = self._partial.name
        return sorted(
            path
            for path in self.path.parent.iterdir()
            if path.name == stem
            or (path.name.startswith(f"{stem}.") and path.name[len(stem) + 1 :].isdigit())
        )

    def _go_on(self, journal: Path, video_of: Mapping[int, int]) -> list[FrameResults]:
        """The finished videos of a journal, which ends with the last of them from now on."""
        finished: list[FrameResults] = []
        in_work: list[FrameResults] = []
        with journal.open("r+b") as file:
            end = self._check_header(journal, file.readline())
            while line := file.readline():
                frame = _frame(line)
                if frame is None or frame.image_id not in video_of:
                    break
                in_work.append(frame)
                if len(in_work) == len(self._videos[video_of[frame.image_id]]):
                    finished += in_work
                    in_work = []
                    end = file.tell()
            file.truncate(end)
        return finished

    def _check_header(self, journal: Path, line: bytes) -> int:
        """The length of the first line; 0 where that was cut off."""
        if not line.endswith(b"\n") and _line(self._header).startswith(line):
            return 0
        try:
            header = json.loads(line)
        except ValueError:
            header = None
        if not isinstance(header, dict) or header.get("schema") != SCHEMA:
            raise DataError(
                f"{journal}: not of `sparsevod eval`, which keeps its unfinished predictions there",
                hint="rename it, or choose another name for --save-predictions",
            )
        for name in self._header | header:
            was, now = header.get(name), self._header.get(name)
            if was != now:
                raise ConfigError(
                    f"{journal} was made with {name} {was}, which is {now} now",
                    hint="--resume goes on only with what the run began with; delete the file to "
                    "start anew",
                )
        return len(line)


def _line(value: Any) -> bytes:
    return json.dumps(value).encode() + b"\n"


def _frame(line: bytes) -> FrameResults | None:
    """None where the line is torn."""
    if not line.endswith(b"]\n"):
        return None
    try:
        image_id, *entries = json.loads(line)
        return FrameResults(
            image_id,
            np.array([entry["bbox"] for entry in entries], dtype=np.float64).reshape(-1, 4),
            np.array([entry["score"] for entry in entries], dtype=np.float64),
            [entry["category_id"] for entry in entries],
        )
    except (ValueError, TypeError, KeyError):
        return None


def _places(journal: IO[bytes]) -> Iterator[tuple[int, int]]:
    """Image id and place in the file of each frame."""
    at = len(journal.readline())
    while line := journal.readline():
        yield json.loads(line[1:].partition(b", ")[0].rstrip(b"]\n")), at
        at += len(line)
