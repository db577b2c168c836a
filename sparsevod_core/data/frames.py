"""Reads the pixels of an annotated data set from image files or directly from video files."""

from __future__ import annotations

import os
from collections import OrderedDict, defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from sparsevod_core.data.records import VideoSet
from sparsevod_core.errors import DataError
from sparsevod_core.machine import num_processors
from sparsevod_core.video.image_file import read_image
from sparsevod_core.video.overlap import DEPTH, map_ahead
from sparsevod_core.video.reader import VideoReader

_OPEN_VIDEOS = 4
_EXCHANGED_SIDES = (
    "images are read upright, as their EXIF orientation asks; if an earlier version wrote the "
    "annotations, run `sparsevod prepare-vid` again"
)
_INDEXED_VIDEOS = 8192  # closed readers that still know the positions of their frames, 6 KB each


class FrameReader:
    """Reads frames of a `VideoSet` by position. Each process opens its own video files.

    Args:
        videos: The set.
        threads: Number of decoding threads; 0: one per core. Use 1 if many processes read at once.
    """

    def __init__(self, videos: VideoSet, *, threads: int = 0) -> None:
        self._videos = videos
        self._threads = threads
        self._readers: OrderedDict[Path, VideoReader] = OrderedDict()  # last used last
        self._process = os.getpid()
        self._left_to_parent: object = None

    def read(self, frame: int) -> UInt8[np.ndarray, "H W 3"]:
        """Return the RGB pixels of a frame.

        Raises:
            DataError: image file missing, corrupt, or of another size than annotated.
            VideoError: video file that cannot be opened or has no such frame.
        """
        return self.read_many([frame])[0]

    def read_many(self, frames: Sequence[int]) -> list[UInt8[np.ndarray, "_ _ 3"]]:
        """Return the RGB pixels of some frames, in the given order; errors as in `read`.

        A repeated frame is decoded once, and the frames of a video file are read in one pass, so
        read all frames of a clip in one call.
        """
        in_image_files: list[int] = []
        in_video_files: defaultdict[Path, dict[int, int]] = defaultdict(dict)
        for frame in dict.fromkeys(frames):
            path, index = self._videos.frame_path(frame)
            if index is None:
                in_image_files.append(frame)
            else:
                in_video_files[path][frame] = index
        images = dict(zip(in_image_files, self._images(in_image_files, DEPTH), strict=True))
        for path, indices in in_video_files.items():
            decoded = self._reader(path).frames_at(list(indices.values()))
            for frame, one in zip(indices, decoded, strict=True):
                self._check_size(frame, one.image)
                images[frame] = one.image
        return [images[frame] for frame in frames]

    def in_order(
        self, frames: Sequence[int], ahead: int = DEPTH
    ) -> Iterator[UInt8[np.ndarray, "H W 3"]]:
        """Yield the RGB pixels of frames of one video; errors as in `read`.

        Image files are decoded `ahead` frames ahead, or one per thread if that is more. A video
        file has one decoder, with its own threads.
        """
        _, index = self._videos.frame_path(frames[0])
        return self._images(frames, ahead) if index is None else map(self.read, frames)

    def close(self) -> None:
        """Close the video files. Reading reopens them."""
        for reader in self._readers.values():
            reader.close()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_readers": OrderedDict(), "_left_to_parent": None}

    def _images(self, frames: Sequence[int], ahead: int) -> Iterator[np.ndarray]:
        threads = min(self._threads or num_processors(), len(frames))
        depth = max(ahead, threads) if threads > 1 else 0
        return map_ahead(self._image, frames, threads=threads, depth=depth)

    def _image(self, frame: int) -> np.ndarray:
        path, _ = self._videos.frame_path(frame)
        root = self._videos.root
        hint = f"file names start from {root}; use --root if that is the wrong folder"
        image = read_image(path, DataError, hint)
        self._check_size(frame, image)
        return image

    def _reader(self, path: Path) -> VideoReader:
        if self._process != os.getpid():
            # After a fork, parent and child share file positions, so the child must not use these
            # readers. It must not free them either: that waits for decoder threads, which only the
            # parent has.
            self._left_to_parent = self._readers
            self._readers = OrderedDict()
            self._process = os.getpid()
        reader = self._readers.get(path)
        if reader is None:
            reader = self._readers[path] = VideoReader(path, threads=self._threads)
        self._readers.move_to_end(path)
        if len(self._readers) > _OPEN_VIDEOS:
            list(self._readers.values())[-_OPEN_VIDEOS - 1].close()
        if len(self._readers) > _INDEXED_VIDEOS:
            self._readers.popitem(last=False)
        return reader

    def _check_size(self, frame: int, image: np.ndarray) -> None:
        """Refuse an image of another size, on which all boxes would be wrong."""
        height, width = self._videos.frame_size(frame)
        if image.shape[:2] != (height, width):
            exchanged = image.shape[:2] == (width, height)
            raise DataError(
                f"{self._videos.frame_name(frame)}: {image.shape[1]}x{image.shape[0]} pixels, but "
                f"{self._videos.annotations_path} has {width}x{height}",
                hint=_EXCHANGED_SIDES if exchanged else None,
            )
