"""The one way from any label format to COCO-VID JSON: read video by video, count, write."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Generic

from sparsevod_core.errors import DataError
from sparsevod_core.prepare.annotated import AnnotatedVideo
from sparsevod_core.prepare.conversion_output import ConversionOutput, Origin, Source
from sparsevod_core.prepare.prepared_split import PreparedSplit
from sparsevod_core.prepare.rendered_video import RenderedVideo, render
from sparsevod_core.prepare.worker_pool import ordered_results
from sparsevod_core.reporting import Reporter
from sparsevod_core.version import version


def convert(
    sources: Sequence[Source],
    read: Callable[[Source], AnnotatedVideo],
    result: PreparedSplit,
    *,
    categories: Sequence[Mapping[str, Any]],
    info: Mapping[str, Any],
    strict: bool,
    reporter: Reporter,
    workers: int = 0,
    origin: Origin[Source] | None = None,
) -> PreparedSplit:
    """Read every source and write `result.file`, or only count where that is None.

    Args:
        sources: videos or folders of stills, in the order in which they are written.
        read: opens one; what is broken it leaves out and names in `problems`. With `workers` it
            travels to other processes, as sources do.
        result: knows what is expected; the counts are added to it.
        categories: `{"id": ..., "name": ...}` records, in the order of the labels.
        info: recorded in the file beside the version; `root`: where file names start from.
        strict: stop at the first problem.
        reporter: told about progress.
        workers: processes that read; up to 1 reads in this one.
        origin: what a run finishes before it is cut off is kept beside the file, and the next run
            goes on from there if the origin is the same. None keeps nothing.

    Raises:
        DataError: no usable frame, the file cannot be written, or, if `strict`, any problem.
        SparseVodError: a process was killed.
    """
    result.boxes_per_class = {str(category["name"]): 0 for category in categories}
    about = {"tool": f"sparsevod {version()}", "split": result.split, **info}
    class_names = {category["id"]: str(category["name"]) for category in categories}
    work = _Work(read, class_names, origin)
    if strict and result.problems:
        raise stopped(result.problems[0])
    output = None
    try:
        with ExitStack() as stack:
            if result.file is not None:
                output = ConversionOutput(
                    result.file, info=about, categories=categories, sources=sources, origin=origin
                )
                stack.enter_context(output)
            num_done = _take_over(output, result, strict=strict, reporter=reporter)
            videos = stack.enter_context(ordered_results(work, sources[num_done:], workers))
            progress = stack.enter_context(
                reporter.progress(f"reading {result.split}", len(sources), "folders")
            )
            progress.advance(num_done)
            for video, last_change in videos:
                if strict and video.counts.problems:
                    raise stopped(video.counts.problems[0])
                if output is not None:
                    output.add(video, last_change)
                result.add(video.counts)
                progress.advance(note=video.name)
            if not (result.num_frames or result.num_stills):
                reason = (result.problems or ["there is none"])[0]
                raise DataError(f"no usable frame in the split {result.split}: {reason}")
    except BaseException:
        if output is not None and output.is_kept:
            reporter.message(
                f"{result.file}: what is finished is kept beside it; the same command goes on"
            )
        raise
    result.write_problems()
    return result


def stopped(problem: str) -> DataError:
    """What `strict` raises."""
    return DataError(problem, hint="without --strict it is left out, and reported")


@dataclass(frozen=True, slots=True)
class _Work(Generic[Source]):
    """What a worker process does with a source."""

    read: Callable[[Source], AnnotatedVideo]
    class_names: Mapping[int, str]
    origin: Origin[Source] | None

    def __call__(self, source: Source) -> tuple[RenderedVideo, int]:
        """The video's records, and when its files had last changed."""
        last_change = 0 if self.origin is None else self.origin.last_change(source, False)
        video = render(self.read(source), self.class_names)
        if video.counts.problems and self.origin is not None:
            last_change = self.origin.last_change(source, True)
        return video, last_change


def _take_over(
    output: ConversionOutput[Any] | None,
    result: PreparedSplit,
    *,
    strict: bool,
    reporter: Reporter,
) -> int:
    """Count what an earlier run has finished, and say so."""
    if output is None:
        return 0
    if output.num_outdated:
        reporter.message(
            f"{result.file}: reading {output.num_outdated} folders again that an earlier run had "
            "finished: the tree, the lists, the options or sparsevod have changed since"
        )
    if output.finished:
        reporter.message(
            f"{result.file}: going on after {len(output.finished)} folders that an earlier run "
            "had finished"
        )
    for entry in output.finished:
        if strict and entry.counts.problems:
            raise stopped(entry.counts.problems[0])
        result.add(entry.counts)
    return len(output.finished)
