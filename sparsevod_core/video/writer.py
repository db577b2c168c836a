"""Writes RGB frames as an H.264 video that browsers and phones play."""

from __future__ import annotations

from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from types import TracebackType

import numpy as np
from jaxtyping import UInt8

from sparsevod_core.errors import VideoError

FALLBACK_RATE = Fraction(25)
_SUFFIXES = (".mp4", ".m4v", ".mov")
_BT709 = 1  # the same number for matrix, primaries and transfer (ITU-T H.273)
_LIMITED_RANGE = 1


class VideoWriter:
    """H.264 in MP4, yuv420p, index in front; every frame is shown at exactly the time it was given.

    Use it as a context manager: the file appears under its name when the block ends well, and not
    at all when it ends with an exception. Players want even sizes: an odd last column or row is
    repeated once (`padded_size`).

    Args:
        path: ends in .mp4, .m4v or .mov; its folder is made if need be.
        width, height: size of the frames in pixels.
        frame_rate: frames per second for frames that come without a time, and a hint to the
            encoder; None: 25.
        time_base: unit of time in seconds in which all times given are whole numbers, usually that
            of the source; None: one frame of `frame_rate`.
        crf: constant rate factor of x264, 0 (lossless) to 51; +6 halves the size.
        pixel_aspect: width of a pixel as shown over its height; None: square.

    Raises:
        VideoError: the path is not one of an MP4 file, or cannot be written to.
    """

    def __init__(
        self,
        path: Path | str,
        width: int,
        height: int,
        *,
        frame_rate: Fraction | None,
        time_base: Fraction | None = None,
        crf: int = 20,
        pixel_aspect: Fraction | None = None,
    ) -> None:
        import av

        self.path = Path(path)
        if self.path.suffix.lower() not in _SUFFIXES:
            raise VideoError(
                f"{self.path}: videos are written as MP4",
                hint=f"give a name that ends in {', '.join(_SUFFIXES)}",
            )
        self.size = width, height
        self.padded_size = width + width % 2, height + height % 2
        rate = frame_rate or FALLBACK_RATE
        self._time_base = time_base or 1 / rate
        self._frame_ticks = max(round(1 / rate / self._time_base), 1)
        self._last_tick: int | None = None
        self._partial = self.path.with_name(self.path.name + ".partial")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._container = av.open(
                f"file:{self._partial}", "w", format="mp4", options={"movflags": "+faststart"}
            )
        except (av.FFmpegError, OSError) as error:
            raise self._cannot_write(error) from error
        stream = self._container.add_stream("libx264", rate=rate)
        stream.width, stream.height = self.padded_size
        stream.pix_fmt = "yuv420p"
        # Without B-frames decoding and presentation time agree; with them an MP4 of variable frame
        # rate states too short a duration, and players cut its end off.
        stream.codec_context.options = {"crf": str(crf), "preset": "veryfast", "bf": "0"}
        stream.codec_context.time_base = self._time_base
        stream.time_base = self._time_base
        stream.codec_context.colorspace = _BT709
        stream.codec_context.color_primaries = _BT709
        stream.codec_context.color_trc = _BT709
        stream.codec_context.color_range = _LIMITED_RANGE
        if pixel_aspect is not None:
            stream.codec_context.sample_aspect_ratio = pixel_aspect
        self._stream = stream

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
        picture = av.VideoFrame.from_ndarray(image, format="rgb24").reformat(
            format="yuv420p", dst_colorspace="ITU709"
        )
        picture.time_base = self._time_base
        picture.pts = self._last_tick = self._tick(time_s)
        try:
            self._container.mux(self._stream.encode(picture))
        except (av.FFmpegError, OSError) as error:
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
                self._container.close()
                self._partial.replace(self.path)
                is_complete = True
        except (av.FFmpegError, OSError) as failure:
            raise VideoError(
                f"{self.path}: cannot write the video: {failure.strerror}"
            ) from failure
        finally:
            if not is_complete:
                self._discard()
        if kind is None and not is_complete:
            raise VideoError(f"{self.path}: no frame to write")

    def _tick(self, time_s: Fraction | None) -> int:
        """The time in units of the time base, after that of the last frame."""
        if time_s is None:
            return 0 if self._last_tick is None else self._last_tick + self._frame_ticks
        tick = round(time_s / self._time_base)
        return tick if self._last_tick is None else max(tick, self._last_tick + 1)

    def _cannot_write(self, error: Exception) -> VideoError:
        reason = getattr(error, "strerror", None) or error
        return VideoError(f"{self.path}: cannot write the video: {reason}")

    def _discard(self) -> None:
        import av

        with suppress(av.FFmpegError, OSError):  # e.g. a full disk: there is an error already
            self._container.close()
        self._partial.unlink(missing_ok=True)
