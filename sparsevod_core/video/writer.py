"""Writer of RGB frames as a video that browsers and phones play."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import UInt8

from sparsevod_core.errors import VideoError
from sparsevod_core.files.kinds import MARK, Kind
from sparsevod_core.files.names import cannot_write
from sparsevod_core.files.unfinished import Unfinished
from sparsevod_core.reporting import counted
from sparsevod_core.video.audio import AudioTracks
from sparsevod_core.video.clock import Jump
from sparsevod_core.video.containers import Codec, Encoding, container_for
from sparsevod_core.video.decode import foreign_errors, open_container
from sparsevod_core.video.palette import ToPalette

if TYPE_CHECKING:
    import av
    from av.container import OutputContainer

FALLBACK_RATE = Fraction(25)
_BT709 = 1  # code of matrix, primaries and transfer (ITU-T H.273)
_LIMITED_RANGE = 1
_GIF_END = b";"


def _is_own(path: Path) -> bool:
    """Return True if a file is a video that a `VideoWriter` wrote."""
    gif = _gif_comment()
    with path.open("rb") as file:
        file.seek(max(path.stat().st_size - len(gif), 0))
        if file.read() == gif:
            return True
    with suppress(*foreign_errors(), OSError), open_container(path) as container:
        return MARK in container.metadata.values()
    return False


OWN_VIDEO = Kind("a video written by sparsevod", _is_own)


class VideoWriter:
    """A video whose frames are shown at exactly the given times.

    The default is MP4 (H.264, yuv420p, index at the start). Times are exact in MP4 and MOV, and
    rounded to 1/1000 s in MKV and WebM and to 1/100 s in GIF.

    Use it as a context manager: the file appears under its name if the block ends without an
    exception, and is removed otherwise. It replaces only a video of an earlier run, which is
    recognized by its comment. Players need even sizes: an odd last column or row is repeated once
    (`padded_size`).

    Args:
        path: Path with suffix .mp4, .m4v, .mov, .mkv, .webm or .gif; missing folders are created.
        width, height: Size of the frames in pixels.
        frame_rate: Frame rate in frames per second, for frames without a time and as a hint to the
            encoder; None: 25.
        time_base: Unit in seconds of which all times are multiples, usually that of the source;
            None: the duration of a frame.
        encoding: Codec and quality.
        pixel_aspect: Width of a displayed pixel divided by its height; None: square.
        audio_from: Path of a file whose audio is added; not all containers support audio.
        start_s: Time in that file, in seconds, that is zero in the output.
        jumps: Places where the clock of that file jumps, see `AudioTracks`.

    Raises:
        VideoError: The suffix is not supported.
        ConfigError: The container does not support the encoding, or there is another file.
        DataError: The file cannot be written.
    """

    def __init__(
        self,
        path: Path | str,
        width: int,
        height: int,
        *,
        frame_rate: Fraction | None,
        time_base: Fraction | None = None,
        encoding: Encoding | None = None,
        pixel_aspect: Fraction | None = None,
        audio_from: Path | None = None,
        start_s: Fraction = Fraction(0),
        jumps: Sequence[Jump] = (),
    ) -> None:
        import av

        self.path = Path(path)
        encoding = encoding or Encoding()
        container = container_for(self.path)
        self._codec = encoding.codec_for(container)
        self.size = self.padded_size = width, height
        if self._codec.pixels == "yuv420p":
            self.padded_size = width + width % 2, height + height % 2
        rate = frame_rate or FALLBACK_RATE
        self._time_base = container.tick_s or time_base or 1 / rate
        self._frame_ticks = max(round(1 / rate / self._time_base), 1)
        self._shortest_ticks = max(round(container.shortest_s / self._time_base), 1)
        self._drops_frames = container.shortest_s > 0
        self._last_tick: int | None = None
        self._audio: AudioTracks | None = None
        self._is_gif = container.muxer == "gif"
        self._file = Unfinished(self.path, OWN_VIDEO)
        try:
            self._container = av.open(
                f"file:{self._file.temporary}",
                "w",
                format=container.muxer,
                options=dict(container.options),
            )
        except (av.FFmpegError, OSError) as error:
            self._file.discard()
            raise cannot_write(self.path, error) from error
        self._container.metadata["comment"] = MARK
        try:
            self._stream = _add_stream(self._container, self._codec, encoding, rate)
        except (av.FFmpegError, ValueError) as error:
            self._discard()
            raise VideoError(
                f"{self.path}: FFmpeg has no encoder {self._codec.encoder} on this machine",
                hint="use another --codec, or install PyAV from its wheels, which include it",
            ) from error
        self._stream.width, self._stream.height = self.padded_size
        self._stream.codec_context.time_base = self._time_base
        self._stream.time_base = self._time_base
        if pixel_aspect is not None:
            self._stream.codec_context.sample_aspect_ratio = pixel_aspect
        self._to_palette = ToPalette(*self.size, self._time_base)
        if audio_from is not None and container.audio != frozenset():
            self._audio = AudioTracks(audio_from, self._container, container, start_s, jumps)

    def __enter__(self) -> VideoWriter:
        return self

    def write(self, image: UInt8[np.ndarray, "H W 3"], time_s: Fraction | None = None) -> None:
        """Append one RGB frame.

        Args:
            image: Pixels 0..255.
            time_s: Time in seconds at which the frame is shown; None: one frame after the last
                one. A time that is not after the last frame's is moved to the next possible one.
        """
        import av

        width, height = self.size
        if image.shape != (height, width, 3):
            raise ValueError(f"expected an image of shape {(height, width, 3)}, got {image.shape}")
        padding = (self.padded_size[1] - height, self.padded_size[0] - width)
        if any(padding):
            image = np.pad(image, ((0, padding[0]), (0, padding[1]), (0, 0)), mode="edge")
        tick = self._tick(time_s)
        if tick is None:
            return
        frame = self._encodable(image, tick)
        self._last_tick = tick
        try:
            if self._audio is not None:
                self._audio.write_until(tick * self._time_base)
            self._container.mux(self._stream.encode(frame))
        except (av.FFmpegError, OSError) as error:
            raise cannot_write(self.path, error) from error

    @property
    def notes(self) -> list[str]:
        """What of the source's audio is left out."""
        if self._audio is None:
            return []
        notes = []
        if self._audio.num_lost:
            streams = counted(self._audio.num_lost, "audio stream")
            notes.append(f"{streams} left out: FFmpeg cannot decode or write the codec")
        if (lost_s := self._audio.lost_after_s) is not None:
            notes.append(
                f"the sound ends at {float(lost_s):,.2f} s of the source: its clock jumps there, "
                "and that of the picture does not"
            )
        return notes

    def finish(self, *, truncated: bool) -> None:
        """Write the remaining audio, up to the last frame if truncated; call once at the end."""
        if self._audio is None or self._last_tick is None:
            return
        end_s = (self._last_tick + self._frame_ticks) * self._time_base
        try:
            self._audio.write_until(end_s if truncated else None)
        except OSError as error:
            raise cannot_write(self.path, error) from error

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        import av

        is_complete = False
        try:
            if kind is None and self._last_tick is not None:
                self._container.mux(self._stream.encode(None))
                if self._audio is not None:
                    self._audio.flush()
                self._container.close()
                if self._is_gif:
                    _mark_gif(self._file.temporary)
                is_complete = True
        except (av.FFmpegError, OSError) as failure:
            raise cannot_write(self.path, failure) from failure
        finally:
            if self._audio is not None:
                self._audio.close()
            if not is_complete:
                self._discard()
        if is_complete:
            self._file.publish()
        elif kind is None:
            raise VideoError(f"{self.path}: no frames to write")

    def _tick(self, time_s: Fraction | None) -> int | None:
        """Return the time in units of the time base, after the last one; None: drop the frame."""
        if time_s is None:
            return 0 if self._last_tick is None else self._last_tick + self._frame_ticks
        tick = round(time_s / self._time_base)
        if self._last_tick is None or tick >= self._last_tick + self._shortest_ticks:
            return tick
        return None if self._drops_frames else self._last_tick + self._shortest_ticks

    def _encodable(self, image: np.ndarray, tick: int) -> av.VideoFrame:
        import av

        frame = av.VideoFrame.from_ndarray(image, format="rgb24")
        if self._codec.pixels == "pal8":
            return self._to_palette(frame, tick)
        frame = frame.reformat(format=self._codec.pixels, dst_colorspace="ITU709")
        frame.time_base = self._time_base
        frame.pts = tick
        return frame

    def _discard(self) -> None:
        import av

        with suppress(av.FFmpegError, OSError):  # of a full disk, which has raised an error already
            self._container.close()
        self._file.discard()


def _gif_comment() -> bytes:
    """Return a comment extension and the end of a GIF (GIF89a, sections 24 and 27)."""
    text = MARK.encode("ascii")
    return b"\x21\xfe" + bytes([len(text)]) + text + b"\x00" + _GIF_END


def _mark_gif(path: Path) -> None:
    """Add the comment to a GIF, as FFmpeg writes none."""
    with path.open("r+b") as file:
        file.seek(-len(_GIF_END), 2)
        if file.read() == _GIF_END:
            file.seek(-len(_GIF_END), 2)
            file.write(_gif_comment())


def _add_stream(
    container: OutputContainer, codec: Codec, encoding: Encoding, rate: Fraction
) -> av.VideoStream:
    import av

    stream = container.add_stream(codec.encoder, rate=rate)
    assert isinstance(stream, av.VideoStream)  # all CODECS are video codecs
    stream.pix_fmt = codec.pixels
    context = stream.codec_context
    options, bits = dict(codec.options), encoding.bits_per_second()
    if bits is not None:
        context.bit_rate = bits
    elif codec.max_crf is not None:
        options["crf"] = str(codec.crf if encoding.crf is None else encoding.crf)
        if codec.encoder == "libvpx-vp9":
            context.bit_rate = 0  # overrides the default limit of 256 kbit/s
    context.options = options
    if codec.tag is not None:
        context.codec_tag = codec.tag
    if codec.pixels == "yuv420p":
        context.colorspace = _BT709
        context.color_primaries = _BT709
        context.color_trc = _BT709
        context.color_range = _LIMITED_RANGE
    return stream
