"""Reader of video files: all frames in order, or some by number."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from sparsevod_core.errors import VideoError
from sparsevod_core.reporting import counted
from sparsevod_core.structures import Frame
from sparsevod_core.video.clock import GUESSED_RATE, Clock, Jump, has_times, is_free_running
from sparsevod_core.video.decode import (
    Damage,
    broken_off,
    codec_name,
    decode_all,
    foreign_errors,
    open_video,
)
from sparsevod_core.video.hdr import HdrToSdr
from sparsevod_core.video.pixels import Orientation, ToRgb
from sparsevod_core.video.random_access import RandomAccess

if TYPE_CHECKING:
    import av
    from av.container import InputContainer
    from av.video.stream import VideoStream

_DOLBY_VISION = (14, 15)  # ICtCp and IPT, codes of ITU-T H.273
_FOREIGN_START_S = 10  # a start after this is the clock of a recorder, not a pause
_LONGEST_UNIT_S = 60
_LOWEST_RATE, _HIGHEST_RATE = Fraction(1, 86_400), 100_000
_SAMPLED_PACKETS = 64


class VideoReader:
    """A video file as upright RGB frames, numbered from 0 in presentation order.

    Use it as a context manager. Memory use does not depend on the length of the video.

    Args:
        path: A file in any container and codec that FFmpeg decodes.
        threads: Number of decoding threads; 0: one per core. Use 1 if many processes read.

    Attributes:
        path: Path of the file.
        width, height: Size in pixels as displayed, rotation applied.
        frame_rate: The container's average frame rate in frames per second, None if it has none.
            For a raw stream, its own rate, or FFmpeg's 25.
        time_base: Unit of the container's times in seconds.
        start_s: Time in seconds at which the container's clock starts: 0, except in broadcast
            formats such as MPEG-TS, and where the clock starts below 0 or like that of a recorder.
        jumps: Places where the clock starts again or jumps, found while iterating, see `Clock`.
        pixel_aspect: Width of a displayed pixel divided by its height, None if not specified.
        declared_num_frames: Number of frames according to the header, for progress bars only;
            None if not specified.
        codec: Name of the video codec, e.g. `h264`.
        has_audio: Whether the file has an audio stream.

    Raises:
        VideoError: The file is missing or empty, or has no video stream or no frame that decodes.
    """

    def __init__(self, path: Path | str, *, threads: int = 0) -> None:
        self.path = Path(path)
        self._threads = threads
        container, stream = open_video(self.path, threads)
        with container:
            first = next(decode_all(self.path, container, stream), None)
            if first is None:
                raise broken_off(self.path, 0, None, "the stream is empty")
            self.frame_rate = _frame_rate(container, stream)
            self._notes: list[str] = []
            if self.frame_rate is None and (not has_times(container) or first.pts is None):
                self.frame_rate = GUESSED_RATE
                self._notes.append(
                    f"the file states no frame rate: {GUESSED_RATE} frames per second assumed"
                )
            self.time_base: Fraction | None = stream.time_base
            unit_s = self.time_base
            if unit_s is not None and unit_s > _LONGEST_UNIT_S:
                self.time_base = assumed_s = 1 / (self.frame_rate or GUESSED_RATE)
                self._notes.append(
                    f"the file counts time in units of {float(unit_s):,.0f} s: units of "
                    f"{float(assumed_s):.3g} s assumed"
                )
            self.codec: str = codec_name(stream)
            self.has_audio: bool = bool(container.streams.audio)
            pixel_aspect = stream.sample_aspect_ratio or None
            hdr = HdrToSdr.of(stream.codec_context)
            if stream.codec_context.colorspace in _DOLBY_VISION:
                self._notes.append("the colors are Dolby Vision's, which are not converted")
            self._is_free = is_free_running(container)
            start_s = Fraction(container.start_time or 0, 1_000_000)
            self.declared_num_frames = _declared_num_frames(self.path, container, stream)
        self.jumps: list[Jump] = []
        self._damage = Damage()
        self._clock = self._new_clock()
        self.start_s = Fraction(0)
        first_s = (first.pts or 0) * self._clock.time_base
        if self._is_free or first_s < 0:
            self.start_s = first_s
        elif start_s > _FOREIGN_START_S:
            self.start_s = min(start_s, first_s)
        self._random_access = RandomAccess(self.path, first.pts, self._new_clock, threads)
        orientation = Orientation.of(first)
        # A thread may iterate while another one reads frames by their numbers.
        self._converting = threading.Lock()
        self._to_rgb = ToRgb(first.width, first.height, orientation, hdr)
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
        """Close the file; reading opens it again."""
        self._random_access.close()
        self._to_rgb.release()

    def __iter__(self) -> Iterator[Frame]:
        """Yield all frames in presentation order, from the start each time.

        Raises:
            VideoError: The file breaks off; raised after all frames that decode.
        """
        container, stream = open_video(self.path, self._threads)
        del self.jumps[:]
        damage = self._damage = Damage()
        clock = self._clock = self._new_clock(self.jumps)
        with container:
            for index, frame in enumerate(decode_all(self.path, container, stream, damage)):
                yield self._frame(index, frame, clock.time_of(frame.pts))

    def num_frames(self) -> int:
        """Return the exact number of frames that decode, i.e. that iterating yields.

        Headers are often wrong (damaged, truncated, streamed or edited files), so the first call
        decodes the video once, without converting pixels.
        """
        return self._random_access.num_frames()

    def frames_at(self, indices: Sequence[int]) -> list[Frame]:
        """Return the frames of these numbers, in this order, duplicates included.

        They are identical to those that iterating yields. They are found by seeking, or by decoding
        from the start if the file cannot be seeked exactly. Ascending numbers are fastest, also
        from call to call.

        Raises:
            VideoError: A number is negative, or not less than the number of frames that decode.
        """
        if indices and min(indices) < 0:
            raise VideoError(f"{self.path}: no frame {min(indices)}: numbers start at 0")
        frames = {
            index: self._frame(index, *self._random_access.frame(index))
            for index in sorted(set(indices))
        }
        return [frames[index] for index in indices]

    @property
    def notes(self) -> list[str]:
        """What is assumed about the video, and what was repaired in it while iterating."""
        notes = list(self._notes)
        if self._clock.note is not None:
            notes.append(self._clock.note)
        # Where recordings were glued together, the packet at the end of each looks damaged.
        if self._damage.num_places > len(self.jumps):
            places = counted(self._damage.num_places, "place")
            notes.append(
                f"the file is damaged in {places}, first near frame {self._damage.first:,}: frames "
                "there may be wrong or missing"
            )
        return notes

    def _frame(self, index: int, frame: av.VideoFrame, tick: int) -> Frame:
        with self._converting:
            image = self._to_rgb(frame)
        return Frame(index, tick * self._clock.time_base, image)

    def _new_clock(self, jumps: list[Jump] | None = None) -> Clock:
        return Clock(self.time_base, self.frame_rate, is_free=self._is_free, jumps=jumps)


def _frame_rate(container: InputContainer, stream: VideoStream) -> Fraction | None:
    """Return the average frame rate, None if it is not stated, or absurd."""
    rate = stream.average_rate or stream.guessed_rate
    if not has_times(container):  # FFmpeg states 25 on average, whatever the stream says
        rate = stream.codec_context.framerate
    return rate if rate and _LOWEST_RATE <= rate <= _HIGHEST_RATE else None


def _declared_num_frames(path: Path, container: InputContainer, stream: VideoStream) -> int | None:
    """Return the number of frames by the header; None if it states none, or an absurd one."""
    if 0 < stream.frames <= path.stat().st_size:
        return stream.frames
    if not container.duration or not stream.average_rate:
        return None
    import av

    declared = round(Fraction(container.duration, av.time_base) * stream.average_rate)
    # FFmpeg takes the length of a broadcast format from its first and last time stamp, between
    # which the clock may start again.
    bytes_per_frame = _bytes_per_frame(container, stream)
    if declared < 1 or (bytes_per_frame and declared * bytes_per_frame > 10 * path.stat().st_size):
        return None
    return declared


def _bytes_per_frame(container: InputContainer, stream: VideoStream) -> float:
    """Return the average size of a frame in the next part of the file, 0 if there is none."""
    sizes = []
    with suppress(*foreign_errors()):
        for packet in container.demux(stream):
            sizes.append(packet.size)
            if len(sizes) == _SAMPLED_PACKETS:
                break
    return sum(sizes) / max(len(sizes), 1)
