"""From a file to decoded pictures, in presentation order: opening, decoding, noticing a break."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

from sparsevod_core.errors import VideoError

if TYPE_CHECKING:
    import av
    from av.audio.stream import AudioStream
    from av.container import InputContainer
    from av.video.stream import VideoStream

# Containers that state their length in a header, which a truncated file then contradicts. (Others
# only have a length that FFmpeg estimates from the bytes that are there.)
_DECLARES_DURATION = ("matroska", "webm", "mov", "mp4")

_ROUNDING_S = Fraction(3, 20)
_ATTACHED_PICTURE = 0x400  # FFmpeg's AV_DISPOSITION_ATTACHED_PIC


def open_video(path: Path, threads: int = 0) -> tuple[InputContainer, VideoStream]:
    """The opened file and its main video stream; the caller closes the container.

    Args:
        path: a file in any container and codec that FFmpeg decodes.
        threads: decoding threads; 0: as many as there are cores.

    Raises:
        VideoError: missing, empty, not a video, or without a video stream.
    """
    import av

    if path.is_dir():
        raise VideoError(f"{path}: is a folder, expected a video file")
    try:
        if path.stat().st_size == 0:
            raise VideoError(f"{path}: the file is empty (0 bytes)")
        # `file:` keeps a name like `-clip.mp4` or `rtsp:clip.mp4` a name; the whitelist keeps a
        # playlist that is dressed up as a video from reaching for the network.
        container = av.open(f"file:{path}", options={"protocol_whitelist": "file"})
    except av.FFmpegError as error:
        raise VideoError(
            f"{path}: not a video that can be opened: {_reason(error)}",
            hint="is it complete? an MP4 that was cut off while being written lacks its index",
        ) from error
    except OSError as error:
        raise VideoError(f"{path}: cannot open the video: {error.strerror}") from error
    stream = _main_stream(container)
    if stream is None:
        kinds = ", ".join(sorted({other.type for other in container.streams})) or "no streams"
        container.close()
        raise VideoError(f"{path}: no video stream in it (found: {kinds})")
    stream.thread_type = "AUTO"
    stream.codec_context.thread_count = threads
    return container, stream


def decode_all(
    path: Path, container: InputContainer, stream: VideoStream
) -> Iterator[av.VideoFrame]:
    """Every picture from the start, in presentation order.

    Raises:
        VideoError: where the file breaks, after the pictures that the decoder gave before it:
            undecodable data, a cut-off last packet, or an end long before the length that the
            header declares.
    """
    import av

    count, end_s, longest_gap_s = 0, Fraction(0), Fraction(0)
    previous_s: Fraction | None = None
    is_cut_off = False
    try:
        for packet in container.demux():  # all streams: any of them may be the one that lasts
            if packet.pts is not None and packet.time_base is not None:
                last_s = (packet.pts + (packet.duration or 0)) * packet.time_base
                end_s = max(end_s, last_s)
            if packet.stream.index != stream.index:
                continue
            if packet.size:
                is_cut_off = packet.is_corrupt
            for picture in packet.decode():
                assert isinstance(picture, av.VideoFrame)  # the packet is of a video stream
                yield picture
                count += 1
                time_s = picture_time(picture)
                if time_s is not None and previous_s is not None:
                    longest_gap_s = max(longest_gap_s, time_s - previous_s)
                previous_s = time_s
    except (av.FFmpegError, EOFError) as error:
        raise broken_off(path, count, previous_s, _reason(error)) from error
    if is_cut_off:
        raise broken_off(path, count, previous_s, "its last packet is incomplete")
    if container.duration and container.format.name.split(",")[0] in _DECLARES_DURATION:
        declared_s = Fraction(container.duration, av.time_base)
        # Headers round, and a last frame may be shown longer than any before it.
        if end_s + _ROUNDING_S + 2 * longest_gap_s < declared_s:
            reason = f"the file declares {float(declared_s):.2f} s"
            raise broken_off(path, count, previous_s, reason)


def codec_name(stream: VideoStream | AudioStream) -> str:
    """Name of the format, e.g. `av1`, whatever the decoder is called."""
    codec = stream.codec_context.codec
    return getattr(codec, "canonical_name", codec.name)  # since PyAV 14.1


def picture_time(picture: av.VideoFrame) -> Fraction | None:
    """Exact presentation time in seconds, None where the container gives none."""
    if picture.pts is None or picture.time_base is None:
        return None
    return picture.pts * picture.time_base


def broken_off(path: Path, count: int, time_s: Fraction | None, reason: str) -> VideoError:
    """The error for a file that ends before its time, `time_s` being that of its last frame."""
    if count == 0:
        return VideoError(f"{path}: no frame of the video decodes: {reason}")
    at = "" if time_s is None else f" (last at {float(time_s):.2f} s)"
    return VideoError(f"{path}: the video breaks off after {count} frames{at}: {reason}")


def _main_stream(container: InputContainer) -> VideoStream | None:
    """FFmpeg's choice among several; the cover picture of a song is not a video."""
    best = container.streams.best("video")
    # PyAV 14.0 does not tell a stream's disposition yet.
    if best is None or int(getattr(best, "disposition", 0)) & _ATTACHED_PICTURE:
        return None
    return best  # type: ignore[return-value]


def _reason(error: Exception) -> str:
    """FFmpeg's own words: what failed and the last line of its log."""
    strerror = getattr(error, "strerror", None) or str(error)
    log = getattr(error, "log", None)
    return f"{strerror} ({log[2].strip()})" if log else strerror
