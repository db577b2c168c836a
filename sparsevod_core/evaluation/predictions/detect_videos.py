"""Runs a detector over the listed frames of annotated videos."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from typing import Protocol

from sparsevod_core.config import Config
from sparsevod_core.data.frames import FrameReader
from sparsevod_core.data.records import VideoSet
from sparsevod_core.structures import Category, Detections, Frame, FrameDetections
from sparsevod_core.video.opening import Footage
from sparsevod_core.video.overlap import depth_for


class VideoDetector(Protocol):
    """What is evaluated; `sparsevod_core.inference.Predictor` is one."""

    @property
    def config(self) -> Config: ...

    @property
    def categories(self) -> Sequence[Category]: ...

    @property
    def batch(self) -> int:
        """Frames of a video that go through the model together."""

    @property
    def num_supports(self) -> int:
        """Support frames per target: as configured, 0 where the model looks at none."""

    @property
    def run(self) -> dict[str, str | int]:
        """Version, device, precision and threads, to be recorded."""

    def expect(self, num_frames: int | None) -> str | None:
        """Told, before the first of them, how many frames come; a line for the user, or None."""

    def videos(
        self, videos: Iterable[Footage], *, clip: bool = True
    ) -> Iterator[tuple[int, FrameDetections]]:
        """Every frame of the videos, in order, with its detections in its own pixels, best first.

        With each frame comes its video's number, from 0. A video's supports are remembered once.
        """


def detect_videos(
    predictor: VideoDetector, videos: VideoSet, chosen: Sequence[int], *, clip: bool = True
) -> Iterator[tuple[int, Detections]]:
    """Position in `videos` and detections of every frame of the chosen videos, in order."""
    ahead = depth_for(predictor.batch)
    with closing(FrameReader(videos)) as reader:
        listed = [ListedFrames(reader, videos.video_frames(video), ahead) for video in chosen]
        for number, found in predictor.videos(listed, clip=clip):
            yield listed[number].positions[found.frame.index], found.detections


class ListedFrames:
    """The frames of a video that the annotations list, as if they were all that it has.

    Args:
        reader: of the set.
        positions: of the video's frames in the set.
        ahead: see `FrameReader.in_order`.
    """

    def __init__(self, reader: FrameReader, positions: range, ahead: int) -> None:
        self.positions = positions
        self._reader = reader
        self._ahead = ahead

    def num_frames(self) -> int:
        return len(self.positions)

    def frames_at(self, indices: Sequence[int]) -> list[Frame]:
        images = self._reader.read_many([self.positions[index] for index in indices])
        return [Frame(index, None, image) for index, image in zip(indices, images, strict=True)]

    def __iter__(self) -> Iterator[Frame]:
        images = self._reader.in_order(self.positions, self._ahead)
        for index, image in enumerate(images):
            yield Frame(index, None, image)
