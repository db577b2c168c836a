"""Access to the frames of a video file by number: an index of presentation times, and seeking."""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from sparsevod_core.errors import VideoError
from sparsevod_core.video.clock import Clock
from sparsevod_core.video.decode import (
    broken_off,
    codec_name,
    decode_all,
    foreign_errors,
    open_video,
)

if TYPE_CHECKING:
    import av
    from av.container import InputContainer
    from av.video.stream import VideoStream

TimedFrame: TypeAlias = "tuple[av.VideoFrame, int]"
"""A decoded frame, and its time in the stream's time base."""


class FrameIndex:
    """Presentation times and keyframes.

    Args:
        times: Time stamp of every frame in the stream's time base, ascending.
        keyframes: Numbers of the frames that decode without earlier ones, ascending.
        clock: Clock that gives the frames' times.
    """

    def __init__(self, times: list[int], keyframes: list[int], clock: Clock) -> None:
        self.times = array("q", times)  # compact, as many videos may be open
        self.shown_at = self.times
        if len(times) > 1 and np.diff(self.times).max() > clock.longest_gap:
            self.shown_at = array("q", map(clock.time_of, times))
        self.keyframes = keyframes
        self.keyframe_at = {times[number]: number for number in keyframes}

    def keyframes_before(self, number: int) -> list[int]:
        """Return the last few keyframes from which frame `number` can be reached, nearest first."""
        end = bisect_right(self.keyframes, number)
        return self.keyframes[max(end - 3, 0) : end][::-1]


class RandomAccess:
    """Decoder that stays open and continues from its position if that is nearer than a keyframe.

    Args:
        path: Path of a video file of which at least one frame decodes.
        first_time: Time stamp of its first decoded frame, in the stream's time base.
        new_clock: Returns a clock for the frames from the first one on.
        threads: Number of decoding threads; 0: one per core.
    """

    def __init__(
        self,
        path: Path,
        first_time: int | None,
        new_clock: Callable[[], Clock],
        threads: int,
    ) -> None:
        self._path = path
        self._first_time = first_time
        self._new_clock = new_clock
        self._threads = threads
        self._index: FrameIndex | None = None
        self._is_seekable = True  # until proven otherwise
        self._num_frames: int | None = None
        self._video: tuple[InputContainer, VideoStream] | None = None
        self._frames: Iterator[av.VideoFrame] = iter(())
        self._clock = new_clock()  # of decoding from the start
        self._last: TimedFrame | None = None
        self._next = 0  # number of the frame that the decoder gives next; `_last` is before it

    def close(self) -> None:
        """Close the file, but keep the index."""
        if self._video is not None:
            self._video[0].close()
        self._video, self._frames, self._last, self._next = None, iter(()), None, 0

    def num_frames(self) -> int:
        """Return the number of frames that decode; the first call decodes all of them."""
        if self._num_frames is None:
            self._count()
        assert self._num_frames is not None
        return self._num_frames

    def frame(self, number: int) -> TimedFrame:
        """Return the decoded frame of this number (0 or more) and its time in the time base.

        Raises:
            VideoError: Fewer frames decode.
        """
        if self._num_frames is not None and number >= self._num_frames:
            raise VideoError(
                f"{self._path}: no frame {number} (numbers start at 0): "
                f"only {self._num_frames} frames decode"
            )
        if self._last is not None and number == self._next - 1:
            return self._last
        if self._is_seekable:
            found = self._by_seeking(number)
            if found is not None:
                return found
            self.close()
            if self._num_frames is None:
                self._count()  # not all packets decode: count those that do
                return self.frame(number)
            self._is_seekable = False
        return self._by_counting(number)

    def _count(self) -> None:
        times: list[int | None] = []
        keyframes: list[int] = []
        container, stream = open_video(self._path, self._threads)
        with container:
            try:
                for number, frame in enumerate(decode_all(self._path, container, stream)):
                    times.append(frame.pts)
                    if frame.key_frame:
                        keyframes.append(number)
            except VideoError:
                pass  # the video ends where it breaks off; reading it all reports that
        self._num_frames = len(times)
        frame_times = [time for time in times if time is not None]
        # Seeking needs distinct times.
        self._is_seekable = len(frame_times) == len(times) and all(
            a < b for a, b in pairwise(frame_times)
        )
        self._index = None
        if self._is_seekable:
            self._index = FrameIndex(frame_times, keyframes, self._new_clock())

    def _by_seeking(self, number: int) -> TimedFrame | None:
        """Return None if there is no index, it is too short, or the decoder contradicts it."""
        if self._index is None:
            self._index = _index_of_packets(self._path, self._first_time, self._new_clock())
        index = self._index
        if index is None or number >= len(index.times):
            return None
        starts = index.keyframes_before(number)
        try:
            if self._video and starts and starts[0] < self._next <= number:
                return self._onward(number, index)
            # Some containers seek by decoding time and land after the keyframe, and with intra
            # refresh a decoder returns nothing for a while: then start at an earlier keyframe.
            for start in starts:
                found = self._from_keyframe(start, number, index)
                if found is not None:
                    return found
        except foreign_errors():
            pass
        return None

    def _from_keyframe(self, start: int, number: int, index: FrameIndex) -> TimedFrame | None:
        container, stream = self._video or self._open()
        container.seek(index.times[start], stream=stream)
        self._frames = container.decode(stream)
        for frame in self._frames:
            if frame.pts is None or frame.pts > index.times[number]:
                break
            # Skip frames of an open group of pictures before the keyframe, whose references were
            # not decoded.
            position = index.keyframe_at.get(frame.pts)
            if position is not None:
                self._last, self._next = (frame, index.shown_at[position]), position + 1
                return self._last if position == number else self._onward(number, index)
        return None

    def _onward(self, number: int, index: FrameIndex) -> TimedFrame | None:
        for frame in self._frames:
            if frame.pts != index.times[self._next] or frame.is_corrupt:
                break
            self._last, self._next = (frame, index.shown_at[self._next]), self._next + 1
            if self._next > number:
                return self._last
        return None

    def _by_counting(self, number: int) -> TimedFrame:
        """Decode from the start, or continue after the last call."""
        if self._video is None or number < self._next:
            self.close()
            container, stream = self._open()
            self._frames = decode_all(self._path, container, stream)
            self._clock = self._new_clock()
        for frame in self._frames:
            self._last, self._next = (frame, self._clock.time_of(frame.pts)), self._next + 1
            if self._next > number:
                return self._last
        raise broken_off(self._path, self._next, None, "it was longer when it was read earlier")

    def _open(self) -> tuple[InputContainer, VideoStream]:
        self._video = open_video(self._path, self._threads)
        return self._video


def _index_of_packets(path: Path, first_time: int | None, clock: Clock) -> FrameIndex | None:
    """Return the index without decoding; None if packets do not determine the decoded frames."""
    container, stream = open_video(path)
    shown: list[tuple[int, bool]] = []
    with container:
        # VP8 may store frames that are never shown as separate packets.
        if codec_name(stream) == "vp8":
            return None
        try:
            for packet in container.demux(stream):
                if not packet.size or packet.is_discard:
                    continue  # the end, or removed by an edit list
                if packet.pts is None or packet.is_corrupt:
                    return None
                shown.append((packet.pts, packet.is_keyframe))
        except foreign_errors():
            return None
    shown.sort()
    times = [time for time, _ in shown]
    # Equal times: two packets per frame, as in interlaced video. Another first time: the file
    # starts in the middle of a group of pictures.
    if len(set(times)) != len(times) or times[:1] != [first_time]:
        return None
    keyframes = [number for number, (_, is_keyframe) in enumerate(shown) if is_keyframe]
    return FrameIndex(times, keyframes, clock)
