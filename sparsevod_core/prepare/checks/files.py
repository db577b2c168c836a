"""Image and video files: whether they exist, can be read, and match the annotations."""

from __future__ import annotations

import os
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from sparsevod_core.data.frames import FrameReader
from sparsevod_core.data.records import VideoSet
from sparsevod_core.errors import DataError, VideoError
from sparsevod_core.prepare.checks.findings import Finding, find, frame_label
from sparsevod_core.prepare.reading.image_size import read_image_size
from sparsevod_core.reporting import Reporter
from sparsevod_core.video.reader import VideoReader

SAMPLED_IMAGES, SAMPLED_VIDEOS = 200, 8
_CACHED_FOLDERS = 16


@dataclass(frozen=True, slots=True)
class FileCounts:
    """Numbers of files.

    Attributes:
        images, video_files: Numbers of files in the annotations.
        missing: Number of files that do not exist.
        opened: Number of existing files that were opened and compared with the annotations.
        decoded: Number of video files whose frames were counted.
    """

    images: int
    video_files: int
    missing: int
    opened: int
    decoded: int


def check_files(
    videos: VideoSet, *, root_is_given: bool, decode: bool, reporter: Reporter
) -> tuple[FileCounts, list[Finding]]:
    """Check that every file exists, listing each folder once, and open some of them.

    Args:
        root_is_given: If False, the root is a guess. If no file is found below it, the frames are
            probably elsewhere, which is not an error of the dataset.
        decode: If True, open every image and count the frames of every video file.
    """
    frames_of_file = _video_files(videos)
    found, missing = _look_for_files(videos, frames_of_file, reporter)
    num_images = len(found) + len(missing) - len(frames_of_file)

    def name(frame: int) -> str:
        return _video_file(videos, videos.video_of(frame)) or videos.file_name(frame)

    if missing and not found and not root_is_given:
        text = f"files not found below {videos.root}, which contains none of the dataset's files"
        advice = "give the folder of the frames with --root"
        findings = find("frames_not_found", "problem", text, missing, name, advice)
        return FileCounts(num_images, len(frames_of_file), len(missing), 0, 0), findings
    images = [frame for frame in found if frame not in frames_of_file]
    video_files = [frame for frame in found if frame in frames_of_file]
    if not decode:
        images = _sample(images, SAMPLED_IMAGES)
        video_files = _sample(video_files, SAMPLED_VIDEOS)
    problems = _open_files(videos, [*images, *video_files], frames_of_file, decode, reporter)
    advice = "" if decode else "only a sample was opened; --decode opens all"
    text = "files that are broken or do not match the annotations"
    findings = [
        *find("missing_files", "error", f"files missing below {videos.root}", missing, name),
        *find("broken_files", "error", text, problems, advice=advice),
    ]
    opened, decoded = len(images) + len(video_files), len(video_files) if decode else 0
    return FileCounts(num_images, len(frames_of_file), len(missing), opened, decoded), findings


def _video_file(videos: VideoSet, video: int) -> str | None:
    files = videos.tables.video_files
    return files[video] if video < len(files) else None


def _video_files(videos: VideoSet) -> dict[int, np.ndarray]:
    """Return the frames in each video file, by the first of them."""
    spans: dict[str, list[range]] = {}
    for video, file in enumerate(videos.tables.video_files):
        if file is not None:
            spans.setdefault(file, []).append(videos.video_frames(video))
    return {parts[0][0]: np.concatenate([*parts]) for parts in spans.values()}


def _look_for_files(
    videos: VideoSet, frames_of_file: dict[int, np.ndarray], reporter: Reporter
) -> tuple[array, array]:
    """Return one frame of every file that exists, and of every file that does not."""
    names_in = lru_cache(_CACHED_FOLDERS)(lambda folder: _names_in(videos.root / folder))
    found, missing = array("q"), array("q")
    with reporter.progress("looking for files", videos.num_videos, "videos") as progress:
        for video in range(videos.num_videos):
            frames: Sequence[int] = videos.video_frames(video)
            file = _video_file(videos, video)
            if file is not None:
                frames = frames[:1] if frames[0] in frames_of_file else ()
            for frame in frames:
                folder, _, name = (file or videos.file_name(frame)).rpartition("/")
                (found if name in names_in(folder) else missing).append(frame)
            progress.advance()
    return found, missing


def _names_in(folder: Path) -> frozenset[str]:
    try:
        return frozenset(os.listdir(folder))  # noqa: PTH208 - ten thousand Paths would cost more
    except OSError:
        return frozenset()


def _sample(frames: list[int], number: int) -> list[int]:
    """Return evenly spaced frames."""
    places = np.linspace(0, len(frames) - 1, min(number, len(frames))).round().astype(int)
    return [frames[place] for place in places.tolist()]


def _open_files(
    videos: VideoSet,
    frames: list[int],
    frames_of_file: dict[int, np.ndarray],
    decode: bool,
    reporter: Reporter,
) -> list[str]:
    """Return the problems of the files that hold these frames."""
    if not frames:
        return []
    problems: list[str] = []
    images = FrameReader(videos)
    with reporter.progress("opening files", len(frames), "files") as progress:
        for frame in frames:
            path, _ = videos.frame_path(frame)
            try:
                if frame in frames_of_file:
                    with VideoReader(path) as reader:
                        problems += _differences(videos, frames_of_file[frame], reader, decode)
                elif not _has_size(path, videos.frame_size(frame)):
                    images.read(frame)  # decides, because training reads images like this
            except (DataError, VideoError) as error:
                problems.append(error.message)
            progress.advance(note=path.name)
    return problems


def _has_size(path: Path, size: tuple[int, int]) -> bool:
    """Return True if the image's header has this height and width."""
    try:
        return read_image_size(path) == size
    except DataError:
        return False


def _differences(
    videos: VideoSet, frames: np.ndarray, reader: VideoReader, decode: bool
) -> Iterator[str]:
    """Compare the annotations of a video file's frames with the file."""
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
                f"{reader.path}: {number:,} frames decode, but the annotations continue to frame "
                f"{last} (counted from 0)"
            )
