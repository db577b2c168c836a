"""Conversion from decoded frames to upright RGB pixels."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import UInt8

from sparsevod_core.video.hdr import HdrToSdr

if TYPE_CHECKING:
    import av
    from av.video.reformatter import VideoReformatter


@dataclass(frozen=True, slots=True)
class Orientation:
    """How a stored frame is turned for display.

    Attributes:
        is_transposed: Whether rows and columns are exchanged, before mirroring and flipping.
        is_mirrored: Whether left and right are exchanged.
        is_flipped: Whether top and bottom are exchanged.
    """

    is_transposed: bool = False
    is_mirrored: bool = False
    is_flipped: bool = False

    @classmethod
    def of(cls, frame: av.VideoFrame) -> Orientation:
        """Read the display matrix that phones write, to the nearest multiple of 90 degrees."""
        a, b, c, d = _display_matrix(frame)
        if abs(b) > abs(a):
            return cls(True, c < 0, b < 0)
        return cls(False, a < 0, d < 0)

    def apply(self, image: UInt8[np.ndarray, "h w 3"]) -> UInt8[np.ndarray, "H W 3"]:
        """Return the image as it is displayed, contiguous in memory."""
        if self.is_transposed:
            image = image.transpose(1, 0, 2)
        if self.is_mirrored:
            image = image[:, ::-1]
        if self.is_flipped:
            image = image[::-1]
        return np.ascontiguousarray(image)


class ToRgb:
    """Converts frames of any pixel format, range and bit depth to RGB 0..255, without alpha.

    HDR is mapped to the range of SDR, see `HdrToSdr`.

    Args:
        width, height: Stored size of the video in pixels, before turning. Frames of another size
            are scaled to it, because some streams change their size.
        orientation: How to turn frames.
        hdr: Mapping of an HDR video, see `HdrToSdr.of`.
    """

    def __init__(
        self, width: int, height: int, orientation: Orientation, hdr: HdrToSdr | None = None
    ) -> None:
        self._width, self._height = width, height
        self._orientation = orientation
        self._hdr = hdr
        self._reformatter: VideoReformatter | None = None

    def __call__(self, frame: av.VideoFrame) -> UInt8[np.ndarray, "H W 3"]:
        """Return the upright pixels of a decoded frame."""
        from av.video.reformatter import ColorRange, VideoReformatter

        if self._reformatter is None:
            # One for all frames: setting up a conversion takes longer than the conversion itself,
            # above all the thread pool that FFmpeg creates by default.
            self._reformatter = VideoReformatter()
        rgb = self._reformatter.reformat(
            frame,
            width=self._width,
            height=self._height,
            format="rgb24" if self._hdr is None else "rgb48le",
            src_color_range=ColorRange(frame.color_range).name,
            dst_color_range=ColorRange.JPEG.name,
            **({"threads": 1} if _takes_threads(VideoReformatter) else {}),
        )
        image = rgb.to_ndarray()
        return self._orientation.apply(image if self._hdr is None else self._hdr(image))

    def release(self) -> None:
        """Free the converter (about 100 KB); it is created again when needed."""
        self._reformatter = None


@cache
def _takes_threads(reformatter: Any) -> bool:
    """Return False for PyAV 14, which converts in one thread."""
    return "threads" in (reformatter.reformat.__doc__ or "")


def _display_matrix(frame: av.VideoFrame) -> tuple[float, float, float, float]:
    """Return a, b, c, d of x' = ax + cy, y' = bx + dy (ISO 14496-12)."""
    try:
        side_data: Any = frame.side_data
    except ValueError:  # PyAV does not know another kind of side data in this frame
        turn = math.radians(frame.rotation)  # includes rotation, but not mirroring
        return math.cos(turn), -math.sin(turn), math.sin(turn), math.cos(turn)
    if "DISPLAYMATRIX" not in side_data:
        return 1, 0, 0, 1
    a, b, _, c, d, *_ = np.frombuffer(bytes(side_data["DISPLAYMATRIX"]), np.int32).tolist()
    return a, b, c, d
