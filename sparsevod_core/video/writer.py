"""Writes RGB frames as a video that browsers and phones play."""

from __future__ import annotations

from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import UInt8

from sparsevod_core.errors import VideoError
from sparsevod_core.video.audio import AudioTracks
from sparsevod_core.video.containers import Codec, Encoding, container_for
from sparsevod_core.video.palette import ToPalette

if TYPE_CHECKING:
    import av
    from av.container import OutputContainer

FALLBACK_RATE = Fraction(25)
_BT709 = 1  # the same number for matrix, primaries and transfer (ITU-T H.273)
_LIMITED_RANGE = 1


class VideoWriter:
    """A video whose frames are shown at exactly the times that they were given.

    MP4 (H.264, yuv420p, index in front) unless the name or `encoding` says otherwise. The times are
    exact in MP4 and MOV; MKV and WebM count milliseconds, GIF hundredths.

    Use it as a context manager: the file appears under its name when the block ends well, and not
    at all when it ends with an exception. Players want even sizes: an odd last column or row is
    repeated once (`padded_size`).

    Args:
        path: .mp4, .m4v, .mov, .mkv, .webm or .gif; its folder is made if need be.
        width, height: size of the frames in pixels.
        frame_rate: frames per second for frames that come without a time, and a hint to the
            encoder; None: 25.
        time_base: unit of time in seconds in which all times given are whole numbers, usually that
            of the source; None: one frame of `frame_rate`.
        encoding: codec and quality.
        pixel_aspect: width of a pixel as shown over its height; None: square.
        audio_from: a file whose sound goes with the frames; the container may have none.
        start_s: time in that file that is zero here.

    Raises:
        VideoError: the path is not one of a video, or cannot be written to.
        ConfigError: an encoding that the container does not take.
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
        self._leaves_out = container.shortest_s > 0
        self._last_tick: int | None = None
        self._partial = self.path.with_name(self.path.name + ".partial")
        self._audio: AudioTracks | None = None
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._container = av.open(
                f"file:{self._partial}",
                "w",
                format=container.muxer,
                options=dict(container.options),
            )
        except (av.FFmpegError, OSError) as error:
            raise self._cannot_write(error) from error
        try:
            self._stream = _add_stream(self._container, self._codec, encoding, rate)
        except (av.FFmpegError, ValueError) as error:
            self._discard()
            raise VideoError(
                f"{self.path}: this FFmpeg has no encoder {self._codec.encoder}",
                hint="another --codec may do; PyAV's own wheels have it",
            ) from error
        self._stream.width, self._stream.height = self.padded_size
        self._stream.codec_context.time_base = self._time_base
        self._stream.time_base = self._time_base
        if pixel_aspect is not None:
            self._stream.codec_context.sample_aspect_ratio = pixel_aspect
        self._to_palette = ToPalette(*self.size, self._time_base)
        if audio_from is not None and container.audio != frozenset():
            self._audio = AudioTracks(audio_from, self._container, container, start_s)

    def __enter__(self) -> VideoWriter:
        return self

    def write(self, image: UInt8[np.ndarray, "H W 3"], time_s: Fraction | None = None) -> None:
        """Append one RGB frame.

        Args:
            image: pixels 0..255.
            time_s: when it is shown; None: one frame after the last. A time that is not after that
                of the last frame becomes the next moment that the file can tell from it.
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
        picture = self._encodable(image, tick)
        self._last_tick = tick
        try:
            if self._audio is not None:
                self._audio.write_until(tick * self._time_base)
            self._container.mux(self._stream.encode(picture))
        except (av.FFmpegError, OSError) as error:
            raise self._cannot_write(error) from error

    def finish(self, *, truncated: bool) -> None:
        """The rest of the sound, once after the last frame; of a truncated video, until it ends."""
        if self._audio is None or self._last_tick is None:
            return
        end_s = (self._last_tick + self._frame_ticks) * self._time_base
        try:
            self._audio.write_until(end_s if truncated else None)
        except OSError as error:
            raise self._cannot_write(error) from error

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
                self._partial.replace(self.path)
                is_complete = True
        except (av.FFmpegError, OSError) as failure:
            raise VideoError(
                f"{self.path}: cannot write the video: {failure.strerror}"
            ) from failure
        finally:
            if self._audio is not None:
                self._audio.close()
            if not is_complete:
                self._discard()
        if kind is None and not is_complete:
            raise VideoError(f"{self.path}: no frame to write")

    def _tick(self, time_s: Fraction | None) -> int | None:
        """The time in units of the time base, after that of the last frame; None: left out."""
        if time_s is None:
            return 0 if self._last_tick is None else self._last_tick + self._frame_ticks
        tick = round(time_s / self._time_base)
        if self._last_tick is None or tick >= self._last_tick + self._shortest_ticks:
            return tick
        return None if self._leaves_out else self._last_tick + self._shortest_ticks

    def _encodable(self, image: np.ndarray, tick: int) -> av.VideoFrame:
        import av

        picture = av.VideoFrame.from_ndarray(image, format="rgb24")
        if self._codec.pixels == "pal8":
            return self._to_palette(picture, tick)
        picture = picture.reformat(format=self._codec.pixels, dst_colorspace="ITU709")
        picture.time_base = self._time_base
        picture.pts = tick
        return picture

    def _cannot_write(self, error: Exception) -> VideoError:
        reason = getattr(error, "strerror", None) or error
        return VideoError(f"{self.path}: cannot write the video: {reason}")

    def _discard(self) -> None:
        import av

        with suppress(av.FFmpegError, OSError):  # e.g. a full disk: there is an error already
            self._container.close()
        self._partial.unlink(missing_ok=True)


def _add_stream(
    container: OutputContainer, codec: Codec, encoding: Encoding, rate: Fraction
) -> av.VideoStream:
    import av

    stream = container.add_stream(codec.encoder, rate=rate)
    assert isinstance(stream, av.VideoStream)  # all of CODECS are of pictures
    stream.pix_fmt = codec.pixels
    context = stream.codec_context
    options, bits = dict(codec.options), encoding.bits_per_second()
    if bits is not None:
        context.bit_rate = bits
    elif codec.max_crf is not None:
        options["crf"] = str(codec.crf if encoding.crf is None else encoding.crf)
        if codec.encoder == "libvpx-vp9":
            context.bit_rate = 0  # else it keeps to its default of 256 kbit/s as well
    context.options = options
    if codec.tag is not None:
        context.codec_tag = codec.tag
    if codec.pixels == "yuv420p":
        context.colorspace = _BT709
        context.color_primaries = _BT709
        context.color_trc = _BT709
        context.color_range = _LIMITED_RANGE
    return stream
