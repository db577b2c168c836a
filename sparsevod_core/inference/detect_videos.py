"""Several videos one after the other: where their outputs go, what is done already."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sparsevod_core.errors import ConfigError, SparseVodError
from sparsevod_core.inference.detect_video import DetectedVideo
from sparsevod_core.inference.outputs import STDOUT, OutputFiles
from sparsevod_core.reporting import Reporter
from sparsevod_core.video.sources import Source

SUFFIXES = {
    "json": ".json",
    "jsonl": ".jsonl",
    "csv": ".csv",
    "coco": ".coco.json",
    "mot": ".txt",
    "yolo": "",
    "crop": "",
}
INTERRUPTED = 130  # exit code of Ctrl-C


@dataclass(frozen=True, slots=True)
class Job:
    """A video and what is made of it.

    Attributes:
        is_done: all of it is there already.
    """

    source: Source
    files: OutputFiles
    is_done: bool = False


def plan(
    sources: Sequence[Source],
    output: Path | None,
    results: Mapping[str, Path],
    *,
    shard: str | None = None,
    has_video: bool = True,
) -> list[Job]:
    """Who writes what. Of several videos, or where `output` has no suffix, outputs are folders.

    Files in them are called after the videos.

    Args:
        sources: the videos.
        output: the video to write, a folder, or a name in which `*` stands for the video's; None:
            in the current folder, or `detections/`.
        results: files by format, or folders.
        shard: `I/N`: of several videos only those numbered I, I + N, ... from 1.
        has_video: False: only `results` are written.

    Raises:
        ConfigError: a shard that is none, or files that several videos would have to share.
    """
    first, step = _shard(shard)
    if output is not None and not has_video:
        raise ConfigError(f"{output}: -o names the video that --no-video leaves out")
    is_file = output is None or bool(output.suffix and not output.is_dir())
    if len(sources) == 1 and shard is None and is_file and "*" not in str(output):
        (source,) = sources
        video = output or Path(f"{source.stem}_detections.mp4")
        return [Job(source, OutputFiles(video if has_video else None, dict(results)))]
    if STDOUT in results.values():
        raise ConfigError(f"the detections of {len(sources)} videos do not fit on one stdout")
    names = _names(sources)
    jobs = []
    for source, name in zip(sources[first::step], names[first::step], strict=True):
        video = _video_of(name, output, len(sources))
        paths = {kind: path / f"{name}{SUFFIXES[kind]}" for kind, path in results.items()}
        files = OutputFiles(video if has_video else None, paths)
        jobs.append(Job(source, files, files.are_done()))
    return jobs


def detect_all(
    jobs: Iterable[Job],
    detect: Callable[[Job], DetectedVideo],
    reporter: Reporter,
    *,
    is_single: bool,
) -> int:
    """Do what is not done.

    Args:
        jobs: the videos.
        detect: does one, as `detect_video`.
        reporter: told what came of each.
        is_single: its error is that of the run; one of several videos that cannot be read does not
            keep the others from being done.

    Returns:
        The exit code: 0; 1 where a video was broken; 130 after Ctrl-C.

    Raises:
        SparseVodError: of a single video.
    """
    code = 0
    for job in jobs:
        if job.is_done:
            continue
        try:
            found = detect(job)
        except SparseVodError as error:
            if is_single:
                raise
            reporter.warning(error.message)
            code = error.exit_code
            continue
        _say(job, found, reporter)
        if found.is_interrupted:
            return INTERRUPTED
        if found.broken:
            code = 1
    return code


def _say(job: Job, found: DetectedVideo, reporter: Reporter) -> None:
    if found.broken:
        reporter.warning(found.broken)
    files = " and ".join(map(str, job.files.places())) or "to stdout"
    reporter.message(
        f"wrote {files}: {found.num_frames} frames, {found.num_detections} detections, "
        f"{found.num_drawn} of them drawn"
    )
    if found.live is not None:
        live = found.live
        reporter.message(
            f"latency {1000 * live.latency_s:.0f} ms (95 %: {1000 * live.latency_p95_s:.0f} ms), "
            f"{live.num_dropped} frames left out, {live.num_reconnections} new connections"
        )
    elif found.is_interrupted and (journal := job.files.journal()) is not None:
        reporter.message(f"{journal} keeps what was found: --resume goes on")


def _video_of(name: str, output: Path | None, count: int) -> Path:
    """The video that is written of the one of this name."""
    folder = output or Path("detections")
    if "*" in str(folder):
        return Path(str(folder).replace("*", name))
    if folder.suffix and not folder.is_dir():
        raise ConfigError(
            f"{folder}: {count} videos cannot be written to one file",
            hint=f"name a folder, -o {folder.stem}, or -o '{folder.stem}/*{folder.suffix}'",
        )
    return folder / f"{name}.mp4"


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
