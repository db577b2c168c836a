"""Several videos one after the other: where their outputs go, what is done already."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sparsevod_core.errors import ConfigError, SparseVodError
from sparsevod_core.inference.detect_video import DetectedVideo, detect_video
from sparsevod_core.inference.journal import journal_path
from sparsevod_core.inference.predictor import Predictor
from sparsevod_core.reporting import Reporter
from sparsevod_core.video.sources import Source

SUFFIXES = {
    "json": ".json",
    "jsonl": ".jsonl",
    "csv": ".csv",
    "coco": ".coco.json",
    "mot": ".txt",
    "yolo": "",
}
INTERRUPTED = 130  # exit code of Ctrl-C


@dataclass(frozen=True, slots=True)
class Job:
    """A video and what is made of it.

    Attributes:
        is_done: all of it is there already.
    """

    source: Source
    output: Path
    results: Mapping[str, Path]
    is_done: bool = False


def plan(
    sources: Sequence[Source],
    output: Path | None,
    results: Mapping[str, Path],
    shard: str | None = None,
) -> list[Job]:
    """Who writes what. Of several videos, or where `output` has no suffix, outputs are folders.

    Files in them are called after the videos.

    Args:
        sources: the videos.
        output: the video to write, or a folder; None: in the current folder, or `detections/`.
        results: files by format, or folders.
        shard: `I/N`: of several videos only those numbered I, I + N, ... from 1.

    Raises:
        ConfigError: a shard that is none, or files that several videos would have to share.
    """
    first, step = _shard(shard)
    has_file = output is None or bool(output.suffix and not output.is_dir())
    if len(sources) == 1 and shard is None and has_file:
        (source,) = sources
        return [Job(source, output or Path(f"{source.stem}_detections.mp4"), dict(results))]
    folder = output or Path("detections")
    if output is not None and has_file:
        raise ConfigError(
            f"{folder}: {len(sources)} videos cannot be written to one file",
            hint=f"name a folder: -o {folder.stem}",
        )
    if "-" in map(str, results.values()):
        raise ConfigError(f"the detections of {len(sources)} videos do not fit on one stdout")
    names = _names(sources)
    jobs = []
    for source, name in zip(sources[first::step], names[first::step], strict=True):
        files = {kind: path / f"{name}{SUFFIXES[kind]}" for kind, path in results.items()}
        video = folder / f"{name}.mp4"
        is_done = all(path.exists() for path in (video, *files.values()))
        jobs.append(Job(source, video, files, is_done and not journal_path(video).exists()))
    return jobs


def detect_all(
    predictor: Predictor,
    jobs: Sequence[Job],
    *,
    score: float,
    checkpoint: Path | None,
    resume: bool,
    duration_s: float | None,
    patience_s: float,
    reporter: Reporter,
) -> int:
    """Do what is not done; options as for `detect_video`.

    One of several videos that cannot be read does not keep the others from being done.

    Returns:
        The exit code: 0; 1 where a video was broken; 130 after Ctrl-C.

    Raises:
        SparseVodError: of a single video.
    """
    done = sum(job.is_done for job in jobs)
    if done:
        reporter.message(f"{done} of {len(jobs)} videos are done already")
    code = 0
    for job in jobs:
        if job.is_done:
            continue
        try:
            found = detect_video(
                predictor,
                job.source,
                job.output,
                results=job.results,
                score=score,
                checkpoint=checkpoint,
                resume=resume,
                duration_s=duration_s,
                patience_s=patience_s,
                reporter=reporter,
            )
        except SparseVodError as error:
            if len(jobs) == 1:
                raise
            reporter.warning(error.message)
            code = error.exit_code
            continue
        _say(job, found, score, reporter)
        if found.is_interrupted:
            return INTERRUPTED
        if found.broken:
            code = 1
    return code


def _say(job: Job, found: DetectedVideo, score: float, reporter: Reporter) -> None:
    if found.broken:
        reporter.warning(found.broken)
    files = [str(path) for path in (job.output, *job.results.values()) if str(path) != "-"]
    reporter.message(
        f"wrote {' and '.join(files)}: {found.num_frames} frames, {found.num_detections} "
        f"detections, {found.num_drawn} of them drawn (score > {score:g})"
    )
    if found.live is not None:
        live = found.live
        reporter.message(
            f"latency {1000 * live.latency_s:.0f} ms (95 %: {1000 * live.latency_p95_s:.0f} ms), "
            f"{live.num_dropped} frames left out, {live.num_reconnections} new connections"
        )
    elif found.is_interrupted:
        reporter.message(f"{journal_path(job.output)} keeps what was found: --resume goes on")


def _names(sources: Sequence[Source]) -> list[str]:
    """Of the files; those of one name in several folders are told apart by a number."""
    names: list[str] = []
    for source in sources:
        name = source.stem or "video"
        count = sum(other.stem == source.stem for other in sources[: len(names)])
        names.append(f"{name}_{count + 1}" if count else name)
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ConfigError(f"two of the videos would be written to {twice}.mp4: rename one")
    return names


def _shard(text: str | None) -> tuple[int, int]:
    if text is None:
        return 0, 1
    number, _, count = text.partition("/")
    if not (number.isdecimal() and count.isdecimal() and 1 <= int(number) <= int(count)):
        raise ConfigError(f"--shard {text}: expected I/N with I from 1 to N, e.g. 2/8")
    return int(number) - 1, int(count)
