"""Writing of a COCO results file by a run that can be interrupted at any time and resumed.

Until the file is complete, each process of the run keeps a journal beside it: `NAME.partial`,
`NAME.partial.1` and so on. Its first line holds the settings of the run. Every other line is a
frame, `[image_id, entry, entry, ...]`, without entries if nothing was detected. A line is passed to
the operating system before the next frame starts, and is on the disk when its video is finished. A
line cut off by a kill is discarded. Complete journals are joined into the file and deleted. As a
results file has no place for it, `NAME.run.json` beside it holds how it was made.
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
from sparsevod_core.files.check import require_own
from sparsevod_core.files.kinds import COCO_RESULTS, json_with
from sparsevod_core.files.lock import locked
from sparsevod_core.files.names import cannot_write, fitted
from sparsevod_core.files.unfinished import writing

SCHEMA = "sparsevod.predictions/1"
RECORD_SUFFIX = ".run.json"
RECORD = json_with(SCHEMA)


class FramePredictions(NamedTuple):
    """The detections of one frame in the terms of a results file."""

    image_id: int
    boxes_xywh: Float[np.ndarray, "M 4"]
    scores: Float[np.ndarray, " M"]
    category_ids: Sequence[Id]


class PredictionsWriter:
    """Writes a results file in one process or several; a context manager.

    Rank 0 calls `begin` before any process enters the block, and `complete` after all have left it.
    It keeps other runs away from the file until then, or until an exception leaves the block.

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
        room = ".0000"  # for the ranks
        place = Path(os.path.realpath(path))
        self._partial = place.with_name(fitted(place.name, f".partial{room}").removesuffix(room))
        self._journal = place.with_name(self._partial.name + f".{rank}") if rank else self._partial
        self._videos = videos
        self._last_ids = {ids[-1] for ids in videos}
        self._header = json.loads(json.dumps({"schema": SCHEMA, **made_by}))
        self._file: IO[bytes] | None = None
        self._is_empty = True
        self._lock = ExitStack()
        self.record = path.with_name(fitted(path.stem, RECORD_SUFFIX))

    def begin(self, *, resume: bool = False) -> list[FramePredictions]:
        """Return the frames of finished videos, and remove all others from the journals.

        Raises:
            ConfigError: There are journals but not `resume`, they are from a run with other
                settings, or the file is already complete.
            DataError: A file with a journal's name is not a journal, or another process is writing
                the file.
        """
        with ExitStack() as lock:
            lock.enter_context(locked([self.path]))
            frames = self._begin(resume=resume)
            self._lock = lock.pop_all()
        return frames

    def _begin(self, *, resume: bool) -> list[FramePredictions]:
        require_own(self.record, RECORD)
        journals = self._journals()
        for journal in journals:
            self._require_journal(journal)
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
            self._journal.parent.mkdir(parents=True, exist_ok=True)
            self._file = self._journal.open("ab", buffering=0)
            self._is_empty = self._file.tell() == 0
            if self._is_empty:
                self._append(_line(self._header))
        except OSError as error:
            raise cannot_write(self._journal, error) from error
        return self

    def write(self, frame: FramePredictions) -> None:
        """Append the detections of a frame at full precision.

        The frames of a video are written one after another by the same process.

        Raises:
            DataError: The file cannot be written.
        """
        assert self._file is not None, "used outside its `with` block"
        columns = zip(
            frame.category_ids, frame.boxes_xywh.tolist(), frame.scores.tolist(), strict=True
        )
        entries = [
            {"image_id": frame.image_id, "category_id": id_, "bbox": box, "score": score}
            for id_, box, score in columns
        ]
        try:
            self._append(_line([frame.image_id, *entries]))
            self._is_empty = False
            if frame.image_id in self._last_ids:
                os.fsync(self._file.fileno())
        except OSError as error:
            raise cannot_write(self._journal, error) from error

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        assert self._file is not None
        self._file.close()
        if self._is_empty:
            self._journal.unlink()  # nothing to resume
        if kind is not None:
            self._lock.close()

    def _append(self, line: bytes) -> None:
        """Pass a line to the operating system; raise if it is written only in part."""
        assert self._file is not None
        rest = memoryview(line)
        while rest:
            rest = rest[self._file.write(rest) :]

    def complete(self, run: Mapping[str, Any]) -> None:
        """Join the journals into the file, with one line for each frame that has detections.

        Args:
            run: What else `NAME.run.json` records, see `describe_run`.

        Raises:
            DataError: The file cannot be written.
        """
        with self._lock:
            with writing(self.path, COCO_RESULTS) as joining, ExitStack() as files:
                journals = [files.enter_context(path.open("rb")) for path in self._journals()]
                self._join(journals, joining)
            record = {**self._header, "predictions": self.path.name, "run": run}
            with writing(self.record, RECORD) as file:
                file.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
            for path in self._journals():
                path.unlink()

    def _join(self, journals: Sequence[IO[bytes]], joining: Path) -> None:
        frame_at = {id_: (journal, at) for journal in journals for id_, at in _places(journal)}
        with joining.open("wb") as results:
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

    def _journals(self) -> list[Path]:
        """Return the journals of all processes of earlier runs and this one."""
        name = re.compile(re.escape(self._partial.name) + r"(\.\d+)?")
        return sorted(path for path in self._partial.parent.glob("*") if name.fullmatch(path.name))

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

    def _require_journal(self, journal: Path) -> None:
        """Raise a DataError unless a file starts as a journal does."""
        try:
            with journal.open("rb") as file:
                line = file.readline()
        except OSError as error:
            raise cannot_write(journal, error) from error
        if self._is_cut(line):
            return
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

    def _is_cut(self, line: bytes) -> bool:
        return not line.endswith(b"\n") and _line(self._header).startswith(line)

    def _check_header(self, journal: Path, line: bytes) -> int:
        """Return the length of the first line, 0 if it was cut off."""
        if self._is_cut(line):
            return 0
        header = json.loads(line)
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
