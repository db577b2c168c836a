"""Frames of a degraded copy: read, degraded and written video by video."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from sparsevod_core.data.frames import FrameReader
from sparsevod_core.data.records import VideoSet
from sparsevod_core.errors import DataError
from sparsevod_core.files.names import cannot_write
from sparsevod_core.files.unfinished import Unfinished
from sparsevod_core.prepare.degradations import degrade
from sparsevod_core.prepare.degrade.plan import VideoPlan
from sparsevod_core.reporting import Progress
from sparsevod_core.video.kinds import is_image
from sparsevod_core.video.overlap import map_ahead

Pixels = UInt8[np.ndarray, "H W 3"]

JPEG_QUALITY = 95


def frame_file(videos: VideoSet, plan: VideoPlan, position: int) -> str:
    """Return the name of a frame's file in the folder of its video.

    It has the frame's number, and the suffix of the image that is copied unless it is degraded.
    """
    frame = plan.frames[position]
    is_still = frame >= videos.tables.video_starts[len(videos.tables.video_names)]
    number = position if is_still else int(videos.tables.frame_ids[frame])
    copied = _copied_file(videos, plan, position)
    return f"{number:06d}{'.jpg' if copied is None else copied.suffix}"


def _copied_file(videos: VideoSet, plan: VideoPlan, position: int) -> Path | None:
    """Return the image file that is copied as it is; None if the frame becomes a JPEG file."""
    path, index = videos.frame_path(plan.frames[position])
    is_copied = index is None and plan.burst(position) is None and is_image(path.name)
    return path if is_copied else None


class FrameCopier:
    """Writes the frames of a set's videos, degraded as planned.

    Args:
        videos: The set.
        folder: Folder of the folders of all videos.
        threads: Number of threads that decode, degrade and encode.
    """

    def __init__(self, videos: VideoSet, folder: Path, threads: int) -> None:
        self._videos = videos
        self._folder = folder
        self._threads = threads
        self._reader = FrameReader(videos, threads=threads)

    def close(self) -> None:
        """Close the video files."""
        self._reader.close()

    def is_finished(self, plan: VideoPlan) -> bool:
        """Return True if the frames of a video are there, from an earlier run."""
        return (self._folder / plan.folder).is_dir()

    def write(self, plan: VideoPlan, progress: Progress) -> None:
        """Write the folder of a video, which appears when it is complete.

        Memory is bounded: only a few frames per thread are decoded ahead.

        Raises:
            DataError: An image file is missing, corrupt, or of another size than annotated; the
                folder cannot be written.
            VideoError: A video file cannot be read, or lacks a frame.
        """
        unfinished = Unfinished(self._folder / plan.folder, is_folder=True)

        def write(item: tuple[int, Pixels | None]) -> None:
            position, image = item
            if image is None:  # image files are decoded by many threads, a video file by one
                image = self._reader.read(plan.frames[position])
            target = unfinished.temporary / frame_file(self._videos, plan, position)
            content = self._content(image, plan, position)
            try:
                target.write_bytes(content)
            except OSError as error:
                raise cannot_write(self._folder, error) from error

        depth = 2 * self._threads if self._threads > 1 else 0
        try:
            written = map_ahead(write, self._decoded(plan), threads=self._threads, depth=depth)
            with closing(written):  # type: ignore[type-var]
                for _ in written:
                    progress.advance(note=plan.folder)
            unfinished.publish()
        finally:
            unfinished.discard()

    def _decoded(self, plan: VideoPlan) -> Iterator[tuple[int, Pixels | None]]:
        """Yield positions in the video, with the pixels of frames of video files."""
        for position, frame in enumerate(plan.frames):
            _, index = self._videos.frame_path(frame)
            yield position, None if index is None else self._reader.read(frame)

    def _content(self, image: Pixels, plan: VideoPlan, position: int) -> bytes:
        """Return the content of a frame's file."""
        source = _copied_file(self._videos, plan, position)
        if source is not None:
            try:
                return source.read_bytes()
            except OSError as error:
                raise DataError(f"{source}: cannot be read: {error.strerror or error}") from error
        burst = plan.burst(position)
        if burst is not None:
            rng = np.random.default_rng((*plan.seed, position + 1))  # a trailing 0 has no effect
            severity = burst.severity(position)
            degraded = degrade(
                rng, image.astype(np.float32) / np.float32(255), burst, severity, plan.scale
            )
            image = (degraded * 255 + 0.5).clip(0, 255).astype(np.uint8)
        return _jpeg(image)


def _jpeg(image: Pixels) -> bytes:
    import cv2

    bgr = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    _, encoded = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    return encoded.tobytes()
