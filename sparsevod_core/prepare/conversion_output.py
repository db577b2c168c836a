"""What a conversion writes, and how a second run goes on with what a first one has finished."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Generic, Protocol, Self, TypeVar

from sparsevod_core.prepare.coco_vid import CocoVidWriter, partial_files
from sparsevod_core.prepare.journal import Finished, Journal
from sparsevod_core.prepare.rendered_video import RenderedVideo


class Named(Protocol):
    """A video, or a folder of stills, before it is read."""

    @property
    def name(self) -> str: ...


Source = TypeVar("Source", bound=Named)


@dataclass(frozen=True, slots=True)
class Origin(Generic[Source]):
    """Tells whether what an earlier run finished still holds.

    Attributes:
        key: differs with whatever leads to another output: folders, lists, options, classes.
        last_change: when a source last changed, in any unit; the flag asks to look at each of its
            files, since those with something wrong get mended in place.
    """

    key: str
    last_change: Callable[[Source, bool], int]


class ConversionOutput(Generic[Source]):
    """A COCO-VID file in the making, for a `with` block.

    If the block ends in an error, what is finished stays in partial files beside the output; it
    is removed where there is no origin to compare with, or no frame in it.

    Args:
        file: to write; its folder is made.
        info, categories: as they are written.
        sources: all there is to convert, in order.
        origin: None never goes on with an earlier run.

    Attributes:
        finished: what an earlier run wrote of the first sources, and still holds.
        num_outdated: how much it finished that holds no more.
        is_kept: after the block: it was cut off, and what is finished is there for a next run.

    Raises:
        DataError: another process is writing the file.
        OSError: it cannot be written.
    """

    def __init__(
        self,
        file: Path,
        *,
        info: Mapping[str, Any],
        categories: Sequence[Mapping[str, Any]],
        sources: Sequence[Source],
        origin: Origin[Source] | None,
    ) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        self._journal: Journal | None = None
        self.finished: Sequence[Finished] = ()
        self.num_outdated = 0
        self.is_kept = False
        if origin is not None:
            made_from = json.dumps([info, categories, origin.key, [s.name for s in sources]])
            self._journal = Journal(file, hashlib.sha256(made_from.encode()).hexdigest())
            earlier = self._journal.finished
            self.finished = earlier[: _count_unchanged(earlier, sources, origin, file)]
            self.num_outdated = self._journal.num_outdated + len(earlier) - len(self.finished)
            self._journal.keep(len(self.finished))
        self._writer = CocoVidWriter(
            file,
            info=info,
            categories=categories,
            start=self.finished[-1].position if self.finished else None,
            videos=[entry.video for entry in self.finished if entry.video is not None],
        )

    def add(self, video: RenderedVideo, last_change: int) -> None:
        """Write the next video."""
        self._writer.add(video)
        if self._journal is not None:
            position = self._writer.position
            self._journal.add(Finished(last_change, video.counts, video.video, position))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        is_complete = False
        try:
            if kind is None:
                self._writer.finish()
                is_complete = True
        finally:
            has_frames = self._writer.position.num_images > 0
            self.is_kept = not is_complete and self._journal is not None and has_frames
            self._writer.close(keep_partial=self.is_kept)
            if self._journal is not None:
                self._journal.close(remove=not self.is_kept)


def _count_unchanged(
    earlier: Sequence[Finished], sources: Sequence[Source], origin: Origin[Source], file: Path
) -> int:
    """How many of the finished ones can be taken over: up to the first that cannot."""
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
