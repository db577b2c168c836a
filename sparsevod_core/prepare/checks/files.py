"""Whether the frames are where the annotations say, and as large as they say."""

from __future__ import annotations

import os
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import numpy as np

from sparsevod_core.data.frames import FrameReader
from sparsevod_core.data.records import VideoSet
from sparsevod_core.errors import DataError, VideoError
from sparsevod_core.prepare.checks.findings import NAMED, Finding, first, frame_label
from sparsevod_core.reporting import Reporter
from sparsevod_core.video.reader import VideoReader

SAMPLED_IMAGES, SAMPLED_VIDEOS = 200, 8
_LISTED_FOLDERS = 16


@dataclass(frozen=True, slots=True)
class FileCounts:
    """What was looked for below the root.

    Attributes:
        images, video_files: how many the annotations name.
        missing: of both.
        opened: of those that are there, the ones opened and compared in size.
        decoded: video files whose frames were counted.
    """

    images: int
    video_files: int
    missing: int
    opened: int
    decoded: int


def check_files(
    videos: VideoSet, *, root_is_given: bool, decode: bool, reporter: Reporter
) -> tuple[FileCounts, list[Finding]]:
    """Look for every file by listing its folder once; open some of them.

    Args:
        videos: the set.
        root_is_given: the user named the root. Where it is a guess and nothing is found, the frames
            are likely elsewhere, which is no error of the data.
        decode: open every image and count the frames of every video file.
        reporter: told about progress.
    """
    films = _video_files(videos)
    found = _look(videos, films, reporter)
    images = [frame for frame in found.frames if frame not in films]
    found_films = [frame for frame in found.frames if frame in films]
    num_images = len(found.frames) + found.num_missing - len(films)
    if found.num_missing and not found.frames and not root_is_given:
        text = f"files looked for below {videos.root}, none of them there"
        advice = "name the folder of the frames with --root"
        finding = Finding(
            "frames_not_found", "problem", text, found.num_missing, tuple(found.missing), advice
        )
        return FileCounts(num_images, len(films), found.num_missing, 0, 0), [finding]

    findings = []
    if found.num_missing:
        text = f"files missing below {videos.root}"
        findings.append(
            Finding("missing_files", "error", text, found.num_missing, tuple(found.missing))
        )
    opened_images = images if decode else _spread_evenly(images, SAMPLED_IMAGES)
    opened_films = found_films if decode else _spread_evenly(found_films, SAMPLED_VIDEOS)
    broken = _broken_images(videos, opened_images, reporter)
    broken += _broken_films(videos, {f: films[f] for f in opened_films}, decode, reporter)
    if broken:
        text = "files broken or unlike their annotations"
        advice = "" if decode else "only some were opened; --decode opens all"
        findings.append(Finding("broken_files", "error", text, len(broken), first(broken), advice))
    opened = len(opened_images) + len(opened_films)
    decoded = len(opened_films) if decode else 0
    return FileCounts(num_images, len(films), found.num_missing, opened, decoded), findings


def _video_files(videos: VideoSet) -> dict[int, np.ndarray]:
    """A frame of each video file, by which its path is found, and all frames that lie in it."""
    frames_of_file: dict[str, list[range]] = {}
    for video, file in enumerate(videos.tables.video_files):
        if file is not None:
            frames_of_file.setdefault(file, []).append(videos.video_frames(video))
    return {spans[0][0]: np.concatenate([*spans]) for spans in frames_of_file.values()}


@dataclass(slots=True)
class _Found:
    """A frame of every file that is there; how many are not, and the first of those."""

    frames: array = field(default_factory=lambda: array("q"))
    num_missing: int = 0
    missing: list[str] = field(default_factory=list)


def _look(videos: VideoSet, films: dict[int, np.ndarray], reporter: Reporter) -> _Found:
    listing = lru_cache(_LISTED_FOLDERS)(lambda folder: _names_in(videos.root / folder))
    files = videos.tables.video_files
    found = _Found()
    with reporter.progress("looking for files", videos.num_videos, "videos") as progress:
        for video in range(videos.num_videos):
            frames: Sequence[int] = videos.video_frames(video)
            file = files[video] if video < len(files) else None
            if file is not None:
                frames = frames[:1] if frames[0] in films else ()
            for frame in frames:
                name = videos.file_name(frame) if file is None else file
                folder, _, base = name.rpartition("/")
                if base in listing(folder):
                    found.frames.append(frame)
                    continue
                found.num_missing += 1
                if len(found.missing) < NAMED:
                    found.missing.append(name)
            progress.advance()
    return found


def _names_in(folder: Path) -> frozenset[str]:
    try:
        return frozenset(os.listdir(folder))  # noqa: PTH208 - ten thousand Paths would cost more
    except OSError:
        return frozenset()


def _spread_evenly(frames: list[int], number: int) -> list[int]:
    places = np.linspace(0, len(frames) - 1, min(number, len(frames))).round().astype(int)
    return [frames[place] for place in places.tolist()]


def _broken_images(videos: VideoSet, frames: list[int], reporter: Reporter) -> list[str]:
    if not frames:
        return []
    reader = FrameReader(videos)
    broken = []
    with reporter.progress("opening images", len(frames), "images") as progress:
        for frame in frames:
            path, _ = videos.frame_path(frame)
            if _header_size(path) != videos.frame_size(frame):
                try:
                    reader.read(frame)  # the last word: training reads it so
                except DataError as error:
                    broken.append(error.message)
            progress.advance()
    return broken


def _header_size(path: Path) -> tuple[int, int] | None:
    """Height and width as the header has them."""
    from PIL import Image

    try:
        with Image.open(path) as image:
            return image.height, image.width
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None


def _broken_films(
    videos: VideoSet, films: dict[int, np.ndarray], decode: bool, reporter: Reporter
) -> list[str]:
    broken: list[str] = []
    if not films:
        return broken
    with reporter.progress("opening videos", len(films), "videos") as progress:
        for frame, frames in films.items():
            path, _ = videos.frame_path(frame)
            try:
                with VideoReader(path) as reader:
                    broken += _differences(videos, frames, reader, decode)
            except VideoError as error:
                broken.append(error.message)
            progress.advance(note=path.name)
    return broken


def _differences(
    videos: VideoSet, frames: np.ndarray, reader: VideoReader, decode: bool
) -> Iterator[str]:
    """What the annotations of a video file's frames say, and the file does not."""
    tables = videos.tables
    differ = (tables.sizes[frames] != (reader.height, reader.width)).any(axis=1)
    if differ.any():
        frame = int(frames[differ.argmax()])
        height, width = videos.frame_size(frame)
        yield (
            f"{frame_label(videos, frame)}: {reader.width}x{reader.height} pixels, but the "
            f"annotations say {width}x{height}"
        )
    if decode:
        last = int(tables.frame_ids[frames].max())
        number = reader.num_frames()
        if last >= number:
            yield (
                f"{reader.path}: {number:,} frames decode, but the annotations go on to frame "
                f"{last} (counted from 0)"
            )
