"""Reads the frames of a video file, all in order or some by number."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from sparsevod_core.errors import VideoError
from sparsevod_core.structures import Frame
from sparsevod_core.video.decode import broken_off, codec_name, decode_all, open_video, picture_time
from sparsevod_core.video.pixels import Orientation, ToRgb
from sparsevod_core.video.random_access import RandomAccess

if TYPE_CHECKING:
    import av
    from av.container import InputContainer
    from av.video.stream import VideoStream

_FREE_CLOCK = 0x0200  # FFmpeg's AVFMT_TS_DISCONT


class VideoReader:
    """A video file as upright RGB frames; frame `i` is the i-th that is shown, from 0.

    Use it as a context manager. Memory does not grow with the length of the video.

    Args:
        path: a file in any container and codec that FFmpeg decodes.
        threads: decoding threads; 0: as many as there are cores. Give 1 where many processes
            read at once.

    Attributes:
        path: the file.
        width, height: size in pixels as shown, rotation applied.
        frame_rate: the container's average rate in frames per second, None where it has none.
        time_base: the unit in seconds in which the container counts time.
        start_s: where the container's clock stands at the start: 0, save in broadcast formats
            (MPEG-TS and the like), whose clock may start anywhere.
        pixel_aspect: width of a pixel as shown over its height, None where the file is silent.
        declared_num_frames: what the header says or implies, good for a progress bar only; None
            where it is silent.
        codec: name of the video codec, e.g. `h264`.
        has_audio: whether there is an audio stream.

    Raises:
        VideoError: missing or empty file, no video stream, or not one frame decodes.
    """

    def __init__(self, path: Path | str, *, threads: int = 0) -> None:
        self.path = Path(path)
        self._threads = threads
        container, stream = open_video(self.path, threads)
        with container:
            first = next(decode_all(self.path, container, stream), None)
            if first is None:
                raise broken_off(self.path, 0, None, "the stream is empty")
            self.frame_rate: Fraction | None = stream.average_rate
            self.time_base: Fraction | None = stream.time_base
            self.declared_num_frames = _declared_num_frames(container, stream)
            self.codec: str = codec_name(stream)
            self.has_audio: bool = bool(container.streams.audio)
            pixel_aspect = stream.sample_aspect_ratio or None
            has_free_clock = bool(int(container.format.flags) & _FREE_CLOCK)
        self.start_s: Fraction = (picture_time(first) or Fraction(0)) * has_free_clock
        self._random_access = RandomAccess(self.path, first.pts, threads)
        orientation = Orientation.of(first)
        self._to_rgb = ToRgb(first.width, first.height, orientation)
        self.width, self.height = first.width, first.height
        self.pixel_aspect: Fraction | None = pixel_aspect
        if orientation.is_transposed:
            self.width, self.height = self.height, self.width
            self.pixel_aspect = pixel_aspect and 1 / pixel_aspect

    def __enter__(self) -> VideoReader:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file. Reading again opens it again."""
        self._random_access.close()
        self._to_rgb.release()

    def __iter__(self) -> Iterator[Frame]:
        """All frames in presentation order, from the start each time.

        Raises:
            VideoError: where the file breaks, after every frame that the decoder gave before it.
        """
        container, stream = open_video(self.path, self._threads)
        with container:
            for index, picture in enumerate(decode_all(self.path, container, stream)):
                yield self._frame(index, picture)

    def num_frames(self) -> int:
        """How many frames decode, exactly: those that iterating gives.

        Headers are wrong too often to be believed (damaged, cut-off, streamed or edited files), so
        the first call decodes the video once, without converting pixels.
        """
        return self._random_access.num_frames()

    def frames_at(self, indices: Sequence[int]) -> list[Frame]:
        """The frames of these numbers, in the order asked for, duplicates included.

        They are found by seeking, and are the same as iterating gives; where the file does not
        seek exactly, by decoding from the start. Numbers that ascend from call to call are
        cheapest: what lies between two of them is decoded once.

        Raises:
            VideoError: a number below 0, or beyond the frames that decode.
        """
        if indices and min(indices) < 0:
            raise VideoError(f"{self.path}: frame {min(indices)} asked for; numbers start at 0")
        frames = {
            index: self._frame(index, self._random_access.picture(index))
            for index in sorted(set(indices))
        }
        return [frames[index] for index in indices]

    def _frame(self, index: int, picture: av.VideoFrame) -> Frame:
        return Frame(index, picture_time(picture), self._to_rgb(picture))


def _declared_num_frames(container: InputContainer, stream: VideoStream) -> int | None:
    if stream.frames:
        return stream.frames
    if not container.duration or not stream.average_rate:
        return None
    import av

    return round(Fraction(container.duration, av.time_base) * stream.average_rate)
