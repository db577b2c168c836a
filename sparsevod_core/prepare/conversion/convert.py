"""Conversion of the videos of one split: read, count and write them one by one."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

from sparsevod_core.errors import DataError
from sparsevod_core.prepare.conversion.coco_vid import SerializedVideo, serialize
from sparsevod_core.prepare.conversion.counts import Counts, count
from sparsevod_core.prepare.conversion.output import ConversionOutput, Named, Origin
from sparsevod_core.prepare.conversion.prepared_split import PreparedSplit
from sparsevod_core.prepare.conversion.worker_pool import ordered_results
from sparsevod_core.prepare.reading.annotated import AnnotatedVideo
from sparsevod_core.reporting import Reporter
from sparsevod_core.version import version

_FRACTION = 1.5
"""Largest coordinate of boxes that are given as fractions of the frame, some a little outside."""


def convert(
    sources: Sequence[Named],
    read: Callable[[Any], AnnotatedVideo],
    result: PreparedSplit,
    *,
    categories: Sequence[Mapping[str, Any]],
    info: Mapping[str, Any],
    strict: bool,
    reporter: Reporter,
    workers: int = 0,
    origin: Origin | None = None,
) -> PreparedSplit:
    """Read every source and write `result.file`; if that is None, only count.

    Args:
        sources: Videos or folders of still images, in output order.
        read: Reads one source; whatever is broken is omitted and reported in `problems`. With
            `workers`, `read` and the sources are pickled.
        result: Expected numbers; the counts are added to it.
        categories: `{"id": ..., "name": ...}` records, in the order of the labels.
        info: Content of `info` in the file, beside the version.
        strict, reporter, workers: See `labeled.prepare_labeled`.
        origin: Used to resume from what an interrupted run finished, kept beside the file. None
            keeps nothing.

    Raises:
        DataError: No usable frame, no box in pixels, the file cannot be written, or, if `strict`,
            any problem.
        SparseVodError: A worker process was killed.
    """
    result.boxes_per_class = {str(category["name"]): 0 for category in categories}
    about = {"tool": f"sparsevod {version()}", "split": result.split, **info}
    class_names = {category["id"]: str(category["name"]) for category in categories}
    process = partial(_process, read, class_names, origin)
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
            num_done = _add_finished(output, result, strict=strict, reporter=reporter)
            videos = stack.enter_context(ordered_results(process, sources[num_done:], workers))
            progress = stack.enter_context(
                reporter.progress(f"reading {result.split}", len(sources), "folders")
            )
            progress.advance(num_done)
            for video, counts, last_change in videos:
                if strict and counts.problems:
                    raise stopped(counts.problems[0])
                if output is not None:
                    output.add(video, counts, last_change)
                result.add(counts)
                progress.advance(note=video.name)
            if not (result.num_frames or result.num_stills):
                reason = (result.problems or ["it is empty"])[0]
                raise DataError(f"no usable frame in the split {result.split}: {reason}")
            if 0 < result.farthest_px <= _FRACTION:
                raise DataError(
                    f"no box in the split {result.split} reaches beyond {result.farthest_px:g} "
                    "pixels: the coordinates look like fractions of the frame, expected pixels"
                )
    except BaseException:
        if output is not None and output.is_kept:
            reporter.message(
                f"{result.file}: finished videos are kept; run the same command to resume"
            )
        raise
    result.write_problems()
    return result


def stopped(problem: str) -> DataError:
    """Return the error that `strict` raises for a problem."""
    return DataError(problem, hint="without --strict this is skipped and reported")


def root_info(root: Path, file: Path | None) -> dict[str, str]:
    """Return `info.root`, the folder that file names are relative to, as seen from the file."""
    return {} if file is None else {"root": os.path.relpath(root.resolve(), file.resolve().parent)}


def _process(
    read: Callable[[Any], AnnotatedVideo],
    class_names: Mapping[int, str],
    origin: Origin | None,
    source: Named,
) -> tuple[SerializedVideo, Counts, int]:
    """Return the records, the counts, and when the files of the source last changed."""
    last_change = 0 if origin is None else origin.last_change(source, False)
    video = read(source)
    counts = count(video, class_names)
    if counts.problems and origin is not None:
        last_change = origin.last_change(source, True)
    return serialize(video), counts, last_change


def _add_finished(
    output: ConversionOutput | None,
    result: PreparedSplit,
    *,
    strict: bool,
    reporter: Reporter,
) -> int:
    """Add the counts of what an earlier run finished; return its number of sources."""
    if output is None:
        return 0
    if output.num_outdated:
        reporter.message(
            f"{result.file}: reading {output.num_outdated} finished folders again: the data, the "
            "lists, the options or sparsevod have changed"
        )
    if output.finished:
        reporter.message(f"{result.file}: resuming after {len(output.finished)} finished folders")
    for entry in output.finished:
        if strict and entry.counts.problems:
            raise stopped(entry.counts.problems[0])
        result.add(entry.counts)
    return len(output.finished)
