"""Pictures of a video file by number: an index of presentation times, and seeking by it."""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from sparsevod_core.errors import VideoError
from sparsevod_core.video.decode import broken_off, codec_name, decode_all, open_video

if TYPE_CHECKING:
    import av
    from av.container import InputContainer
    from av.video.stream import VideoStream


class FrameIndex:
    """When each frame is shown, and where decoding can start.

    Args:
        times: presentation time of every frame in the stream's time base, ascending.
        keyframes: numbers of the frames that decode without those before them, ascending.
    """

    def __init__(self, times: list[int], keyframes: list[int]) -> None:
        self.times = array("q", times)  # many videos may be kept in mind
        self.keyframes = keyframes
        self.keyframe_at = {times[number]: number for number in keyframes}

    def keyframes_before(self, number: int) -> list[int]:
        """The last few keyframes from which frame `number` can be reached, nearest first."""
        end = bisect_right(self.keyframes, number)
        return self.keyframes[max(end - 3, 0) : end][::-1]


class RandomAccess:
    """Keeps a decoder open and goes on from where it stands when that is nearer than a keyframe.

    Args:
        path: a video file of which at least one frame decodes.
        first_time: presentation time of its first decoded frame, in the stream's time base.
        threads: decoding threads; 0: as many as there are cores.
    """

    def __init__(self, path: Path, first_time: int | None, threads: int) -> None:
        self._path = path
        self._first_time = first_time
        self._threads = threads
        self._index: FrameIndex | None = None
        self._is_seekable = True  # until seen otherwise
        self._num_frames: int | None = None
        self._video: tuple[InputContainer, VideoStream] | None = None
        self._pictures: Iterator[av.VideoFrame] = iter(())
        self._last: av.VideoFrame | None = None
        self._next = (
            0  # number of the picture that the decoder gives next; `_last` is the one before
        )

    def close(self) -> None:
        """Close the file; the index is kept."""
        if self._video is not None:
            self._video[0].close()
        self._video, self._pictures, self._last, self._next = None, iter(()), None, 0

    def num_frames(self) -> int:
        """Number of frames that decode, by decoding them all once."""
        if self._num_frames is None:
            self._count()
        assert self._num_frames is not None
        return self._num_frames

    def picture(self, number: int) -> av.VideoFrame:
        """The frame of this number (0 or more).

        Raises:
            VideoError: fewer frames decode.
        """
        if self._num_frames is not None and number >= self._num_frames:
            raise VideoError(
                f"{self._path}: frame {number} asked for (numbers start at 0), "
                f"but only {self._num_frames} frames decode"
            )
        if self._last is not None and number == self._next - 1:
            return self._last
        if self._is_seekable:
            found = self._by_seeking(number)
            if found is not None:
                return found
            self.close()
            if self._num_frames is None:
                self._count()  # the packets promised what does not decode: see what does
                return self.picture(number)
            self._is_seekable = False
        return self._by_counting(number)

    def _count(self) -> None:
        times: list[int | None] = []
        keyframes: list[int] = []
        container, stream = open_video(self._path, self._threads)
        with container:
            try:
                for number, picture in enumerate(decode_all(self._path, container, stream)):
                    times.append(picture.pts)
                    if picture.key_frame:
                        keyframes.append(number)
            except VideoError:
                pass  # a break ends the video here; whoever reads it all is told
        self._num_frames = len(times)
        known = [time for time in times if time is not None]
        # Frames that cannot be told apart by time cannot be sought.
        self._is_seekable = len(known) == len(times) and all(a < b for a, b in pairwise(known))
        self._index = FrameIndex(known, keyframes) if self._is_seekable else None

    def _by_seeking(self, number: int) -> av.VideoFrame | None:
        """None when there is no index, it ends before, or the decoder gives other than it says."""
        import av

        if self._index is None:
            self._index = _index_of_packets(self._path, self._first_time)
        index = self._index
        if index is None or number >= len(index.times):
            return None
        starts = index.keyframes_before(number)
        try:
            if self._video and starts and starts[0] < self._next <= number:
                return self._onward(number, index)
            # Some containers seek by decoding time and land behind the keyframe, and with intra
            # refresh a decoder gives nothing for a while: then start further back.
            for start in starts:
                found = self._from_keyframe(start, number, index)
                if found is not None:
                    return found
        except (av.FFmpegError, EOFError):
            pass
        return None

    def _from_keyframe(self, start: int, number: int, index: FrameIndex) -> av.VideoFrame | None:
        container, stream = self._video or self._open()
        container.seek(index.times[start], stream=stream)
        self._pictures = container.decode(stream)
        for picture in self._pictures:
            if picture.pts is None or picture.pts > index.times[number]:
                break
            # Before the keyframe may come frames of an open group of pictures, whose references
            # were not decoded: skipped.
            position = index.keyframe_at.get(picture.pts)
            if position is not None:
                self._last, self._next = picture, position + 1
                return picture if position == number else self._onward(number, index)
        return None

    def _onward(self, number: int, index: FrameIndex) -> av.VideoFrame | None:
        for picture in self._pictures:
            if picture.pts != index.times[self._next] or picture.is_corrupt:
                break
            self._last, self._next = picture, self._next + 1
            if self._next > number:
                return picture
        return None

    def _by_counting(self, number: int) -> av.VideoFrame:
        """Decode from the start, or on from where the last call ended."""
        if self._video is None or number < self._next:
            self.close()
            container, stream = self._open()
            self._pictures = decode_all(self._path, container, stream)
        for picture in self._pictures:
            self._last, self._next = picture, self._next + 1
            if self._next > number:
                return picture
        raise broken_off(self._path, self._next, None, "it was longer when it was read before")

    def _open(self) -> tuple[InputContainer, VideoStream]:
        self._video = open_video(self._path, self._threads)
        return self._video


def _index_of_packets(path: Path, first_time: int | None) -> FrameIndex | None:
    """The index without decoding; None when packets do not tell what the decoder will give."""
    import av

    container, stream = open_video(path)
    shown: list[tuple[int, bool]] = []
    with container:
        # VP8 may store pictures that are never shown as packets of their own.
        if codec_name(stream) == "vp8":
            return None
        try:
            for packet in container.demux(stream):
                if not packet.size or packet.is_discard:
                    continue  # the end, or cut away by an edit list
                if packet.pts is None or packet.is_corrupt:
                    return None
                shown.append((packet.pts, packet.is_keyframe))
        except (av.FFmpegError, EOFError):
            return None
    shown.sort()
    times = [time for time, _ in shown]
    # Equal times: two packets to a picture, as in interlaced video. Another first time: the file
    # starts in the middle of a group of pictures.
    if len(set(times)) != len(times) or times[:1] != [first_time]:
        return None
    keyframes = [number for number, (_, is_keyframe) in enumerate(shown) if is_keyframe]
    return FrameIndex(times, keyframes)
