"""Jobs of detection in several videos: which videos, and the paths of their outputs."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sparsevod_core.errors import ConfigError
from sparsevod_core.files.names import fitted
from sparsevod_core.inference.outputs import STDOUT, OutputFiles
from sparsevod_core.video.image_writer import is_pattern
from sparsevod_core.video.sources import Source

SUFFIXES = {
    "json": ".json",
    "jsonl": ".jsonl",
    "csv": ".csv",
    "coco": ".coco.json",
    "coco_vid": ".coco_vid.json",
    "mot": ".txt",
    "yolo": "",
    "crop": "",
}


@dataclass(frozen=True, slots=True)
class Job:
    """A video and its outputs.

    Attributes:
        source: The video.
        files: Paths of its outputs.
        folder: Folder of the record of the results; None for a single video.
    """

    source: Source
    files: OutputFiles
    folder: Path | None = None


def plan(
    sources: Sequence[Source],
    output: Path | None,
    results: Mapping[str, Path],
    *,
    shard: str | None = None,
    has_video: bool = True,
) -> list[Job]:
    """Return the jobs of a shard; see `detect_videos` for the arguments.

    For several videos, or if `output` has no suffix, outputs are folders of files named after the
    videos.

    Raises:
        ConfigError: An invalid shard, or outputs that several videos would have to share.
    """
    first, step = _parse_shard(shard)
    if output is not None and not has_video:
        raise ConfigError(f"-o {output}: cannot be combined with --no-video")
    # Unlike Path.is_dir, isdir returns False for a name that is too long.
    is_file = output is None or bool(output.suffix and not os.path.isdir(output))  # noqa: PTH112
    if len(sources) == 1 and shard is None and is_file and "*" not in str(output):
        (source,) = sources
        video = output or Path(fitted(source.stem, "_detections.mp4"))
        return [Job(source, OutputFiles(video if has_video else None, dict(results)))]
    if STDOUT in results.values():
        raise ConfigError(
            f"stdout: cannot hold the detections of {len(sources)} videos", hint="name a folder"
        )
    names = _unique_names(sources)
    jobs = []
    for source, name in zip(sources[first::step], names[first::step], strict=True):
        video = _output_video(name, output, len(sources))
        paths = {kind: path / fitted(name, SUFFIXES[kind]) for kind, path in results.items()}
        files = OutputFiles(video if has_video else None, paths)
        jobs.append(Job(source, files, files.paths()[0].parent))
    return jobs


def _output_video(name: str, output: Path | None, count: int) -> Path:
    """Return the path of the output video for the video called `name`."""
    folder = output or Path("detections")
    if "*" in str(folder):
        return Path(*(_named(part, name) for part in folder.parts))
    if folder.suffix and not os.path.isdir(folder):  # noqa: PTH112
        if is_pattern(folder):
            hint = f"use -o '{folder.parent / '*' / folder.name}'"
        else:
            files = folder.with_suffix("")
            hint = f"name a folder, -o {files}, or use -o '{files}/*{folder.suffix}'"
        raise ConfigError(f"-o {folder}: cannot write {count} videos to one file", hint=hint)
    return folder / fitted(name, ".mp4")


def _named(pattern: str, name: str) -> str:
    """Return a file name in which `*` is the name of a video."""
    before, star, after = pattern.partition("*")
    return fitted(before + name, after.replace("*", name)) if star else pattern


def _unique_names(sources: Sequence[Source]) -> list[str]:
    """Return a name for each video: that of its file, with folders before it if others have it too.

    It does not depend on the order, nor on videos with other names.
    """
    # Names that differ only in case are the same file on some systems.
    places = [Path(os.path.abspath(source.place)) for source in sources]  # noqa: PTH100
    names = [source.stem or "video" for source in sources]
    alike = Counter(zip((p.parent for p in places), map(str.casefold, names), strict=True))
    for number, (source, place) in enumerate(zip(sources, places, strict=True)):
        if source.kind == "file" and alike[place.parent, names[number].casefold()] > 1:
            names[number] = place.name  # a.mov.mp4 beside a.mp4.mp4
    for depth in range(2, max((len(place.parts) for place in places), default=0)):
        counts = Counter(map(str.casefold, names))
        for number, place in enumerate(places):
            if counts[names[number].casefold()] > 1 and depth < len(place.parts):
                names[number] = f"{place.parts[-depth]}_{names[number]}"
    counts = Counter(map(str.casefold, names))
    if twice := [name for name in names if counts[name.casefold()] > 1]:
        raise ConfigError(f"two videos would be written to {twice[0]}.mp4", hint="rename one")
    return names


def _parse_shard(text: str | None) -> tuple[int, int]:
    """Return the position of the first video and the step."""
    if text is None:
        return 0, 1
    number, _, count = text.partition("/")
    if not (number.isdecimal() and count.isdecimal() and 1 <= int(number) <= int(count)):
        raise ConfigError(f"--shard {text}: expected I/N with I from 1 to N, e.g. 2/8")
    return int(number) - 1, int(count)
