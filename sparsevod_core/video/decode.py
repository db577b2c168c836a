"""Opening and decoding of video files, with detection of files that break off."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import IO, TYPE_CHECKING

from sparsevod_core.errors import VideoError
from sparsevod_core.input_file import require_regular_file
from sparsevod_core.pixel_limit import max_pixels, require_few_pixels
from sparsevod_core.video.cut_off import is_cut_off
from sparsevod_core.video.kinds import kind_of

if TYPE_CHECKING:
    import av
    from av.audio.stream import AudioStream
    from av.container import InputContainer
    from av.video.codeccontext import VideoCodecContext
    from av.video.stream import VideoStream

# Containers that declare their length in a header, which reveals a truncated file. (For others,
# FFmpeg estimates the length from the size of the file.)
_DECLARES_DURATION = ("matroska", "webm", "mov", "mp4", "avi", "flv", "mxf")

_ROUNDING_S = Fraction(3, 20)
_ATTACHED_PICTURE = 0x400  # FFmpeg's AV_DISPOSITION_ATTACHED_PIC


@dataclass(slots=True)
class Damage:
    """Places in a video that are damaged.

    Attributes:
        num_places: Number of packets and frames that FFmpeg marks as damaged.
        first: Number of the frame near the first of them.
    """

    num_places: int = 0
    first: int = 0

    def add(self, frame: int) -> None:
        """Count a place near a frame."""
        self.first = self.first if self.num_places else frame
        self.num_places += 1


def open_video(path: Path, threads: int = 0) -> tuple[InputContainer, VideoStream]:
    """Open a file and return it with its main video stream; the caller closes the container.

    Args:
        path: A file in any container and codec that FFmpeg decodes.
        threads: Number of decoding threads; 0: one per core.

    Raises:
        VideoError: The file is missing, empty, not a video, or has no video stream.
    """
    require_regular_file(path, VideoError)
    try:
        if path.stat().st_size == 0:
            raise VideoError(f"{path}: the file is empty (0 bytes)")
        container = open_container(path)
    except foreign_errors() as error:
        raise _cannot_open(path, error) from error
    except OSError as error:
        raise VideoError(f"{path}: cannot open the video: {error.strerror}") from error
    try:
        return container, _main_decoder(path, container, threads)
    except foreign_errors() as error:
        container.close()
        raise _cannot_open(path, error) from error
    except VideoError:
        container.close()
        raise


def open_container(file: Path | IO[bytes]) -> InputContainer:
    """Open a file without decoding; raises any of `foreign_errors`."""
    import av

    # `file:` allows names like `-clip.mp4` or `rtsp:clip.mp4`. The whitelist keeps a playlist that
    # is disguised as a video from accessing the network.
    return av.open(
        f"file:{file}" if isinstance(file, Path) else file,
        "r",
        options={"protocol_whitelist": "file"},
        metadata_errors="replace",
    )


def _main_decoder(path: Path, container: InputContainer, threads: int) -> VideoStream:
    """Return the main video stream with its decoder set up."""
    stream = _main_stream(container)
    # Typed as always present, but None without a decoder.
    context: VideoCodecContext | None = None if stream is None else stream.codec_context
    if context is None and (not len(container.streams) or is_cut_off(path)):
        raise _cannot_open(path, ValueError("its streams are not described"))
    if stream is None:
        kinds = ", ".join(sorted({other.type for other in container.streams})) or "no streams"
        raise VideoError(f"{path}: no video stream (found: {kinds})")
    if context is None:
        raise VideoError(
            f"{path}: cannot decode its video: FFmpeg has no decoder for this codec",
            hint="convert the file to H.264 with the software that made it",
        )
    require_few_pixels(path, context.width, context.height, VideoError)
    context.options = {"max_pixels": str(max_pixels())}  # the size may change within the video
    stream.thread_type = "AUTO"
    context.thread_count = threads
    return stream


def decode_all(
    path: Path,
    container: InputContainer,
    stream: VideoStream,
    damage: Damage | None = None,
) -> Iterator[av.VideoFrame]:
    """Yield every frame from the start, in presentation order, with its time stamp as it is.

    Args:
        path: Path of the file.
        container, stream: As returned by `open_video`.
        damage: Counts the places where FFmpeg finds damage that does not end the video.

    Raises:
        VideoError: The file breaks off, raised after the frames that decode: undecodable data, an
            incomplete last packet, or an end long before the length or size that it declares.
    """
    import av

    count, end_s, longest_gap_s = 0, Fraction(0), Fraction(0)
    previous_s: Fraction | None = None
    is_last_incomplete = False
    errors = foreign_errors()  # evaluated here, because Python may be shutting down later
    try:
        for packet in container.demux():  # all streams: any may be the longest
            if packet.pts is not None and packet.time_base is not None:
                last_s = (packet.pts + (packet.duration or 0)) * packet.time_base
                end_s = max(end_s, last_s)
            if packet.stream.index != stream.index:
                continue
            if packet.size:
                if is_last_incomplete and damage is not None:
                    damage.add(count)
                is_last_incomplete = packet.is_corrupt
            for frame in packet.decode():
                assert isinstance(frame, av.VideoFrame)  # from a video stream
                time_s = frame_time(frame)
                if frame.is_corrupt and damage is not None:
                    damage.add(count)
                yield frame
                count += 1
                if time_s is not None and previous_s is not None:
                    longest_gap_s = max(longest_gap_s, time_s - previous_s)
                previous_s = time_s
    except errors as error:
        raise broken_off(path, count, previous_s, _reason(error)) from error
    if is_last_incomplete:
        raise broken_off(path, count, previous_s, "its last packet is incomplete")
    if count and is_cut_off(path):
        raise broken_off(path, count, previous_s, "the file is cut off")
    if container.duration and container.format.name.split(",")[0] in _DECLARES_DURATION:
        declared_s = Fraction(container.duration, av.time_base)
        # Headers round, and the last frame may be shown longer than any other.
        if end_s + _ROUNDING_S + 2 * longest_gap_s < declared_s:
            reason = f"the file declares {float(declared_s):.2f} s"
            raise broken_off(path, count, previous_s, reason)


def foreign_errors() -> tuple[type[Exception], ...]:
    """Return what PyAV raises for broken files: FFmpeg's errors, and Python's for odd values."""
    import av

    return (
        av.FFmpegError,
        EOFError,
        ValueError,  # e.g. text that is not UTF-8
        ArithmeticError,  # e.g. a number that is too large, or a division by zero
        LookupError,
        AttributeError,  # a stream without a decoder
        MemoryError,
        RuntimeError,
    )


def codec_name(stream: VideoStream | AudioStream) -> str:
    """Return the name of the format, e.g. `av1`, rather than that of the decoder."""
    codec = stream.codec_context.codec
    return getattr(codec, "canonical_name", codec.name)  # since PyAV 14.1


def frame_time(frame: av.VideoFrame) -> Fraction | None:
    """Return the exact presentation time in seconds, None if the container has none."""
    if frame.pts is None or frame.time_base is None:
        return None
    return frame.pts * frame.time_base


def broken_off(path: Path, count: int, time_s: Fraction | None, reason: str) -> VideoError:
    """Return the error for a file that breaks off after `count` frames, the last at `time_s`."""
    if count == 0:
        if is_cut_off(path):
            reason = f"the file is cut off ({reason})"
        return VideoError(f"{path}: cannot decode any frame: {reason}")
    at = "" if time_s is None else f" (last at {float(time_s):.2f} s)"
    return VideoError(f"{path}: the video breaks off after {count} frames{at}: {reason}")


def _main_stream(container: InputContainer) -> VideoStream | None:
    """Return FFmpeg's choice among several; the cover image of a song is not a video."""
    import av

    best = container.streams.best("video")
    # PyAV 14.0 has no `disposition`.
    is_picture = int(getattr(best, "disposition", 0)) & _ATTACHED_PICTURE
    return best if isinstance(best, av.VideoStream) and not is_picture else None


def _cannot_open(path: Path, error: Exception) -> VideoError:
    """Return the error for a file that does not open, which says what it is if that is known."""
    kind = None
    with suppress(OSError):
        kind = kind_of(path)
    if kind is not None:
        what, hint = kind
        return VideoError(f"{path}: cannot open as a video: it is {what}", hint or None)
    reason = _reason(error)
    if is_cut_off(path):
        reason = f"the file is cut off ({reason})"
    return VideoError(
        f"{path}: cannot open as a video: {reason}",
        hint="check that the file is complete, and that a player shows it",
    )


def _reason(error: Exception) -> str:
    """Return FFmpeg's error message and the last line of its log."""
    strerror = getattr(error, "strerror", None) or str(error)
    log = getattr(error, "log", None)
    return f"{strerror} ({log[2].strip()})" if log else strerror
