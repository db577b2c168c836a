"""From a decoded picture to upright RGB pixels."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import UInt8

if TYPE_CHECKING:
    import av
    from av.video.reformatter import VideoReformatter


@dataclass(frozen=True, slots=True)
class Orientation:
    """How a stored picture is turned for display: transposed first, then mirrored."""

    is_transposed: bool = False
    is_mirrored: bool = False
    """Left and right exchanged."""
    is_flipped: bool = False
    """Top and bottom exchanged."""

    @classmethod
    def of(cls, picture: av.VideoFrame) -> Orientation:
        """From the display matrix that phones write, to the nearest multiple of 90 degrees."""
        a, b, c, d = _display_matrix(picture)
        if abs(b) > abs(a):
            return cls(True, c < 0, b < 0)
        return cls(False, a < 0, d < 0)

    def apply(self, image: UInt8[np.ndarray, "h w 3"]) -> UInt8[np.ndarray, "H W 3"]:
        """The picture as it is meant to be seen, contiguous in memory."""
        if self.is_transposed:
            image = image.transpose(1, 0, 2)
        if self.is_mirrored:
            image = image[:, ::-1]
        if self.is_flipped:
            image = image[::-1]
        return np.ascontiguousarray(image)


class ToRgb:
    """RGB 0..255 of any pixel format: limited or full range, 8 bit or more; alpha is dropped.

    Args:
        width, height: stored size of the video, before turning; a picture of another size (some
            streams change it on the way) is scaled to it.
        orientation: how to turn it.
    """

    def __init__(self, width: int, height: int, orientation: Orientation) -> None:
        self._width, self._height = width, height
        self._orientation = orientation
        self._reformatter: VideoReformatter | None = None

    def __call__(self, picture: av.VideoFrame) -> UInt8[np.ndarray, "H W 3"]:
        """The upright pixels of a decoded picture."""
        from av.video.reformatter import ColorRange, VideoReformatter

        if self._reformatter is None:
            # One for all pictures: what FFmpeg sets up for a conversion takes longer than the
            # conversion, most of all the pool of threads that it takes by default.
            self._reformatter = VideoReformatter()
        rgb = self._reformatter.reformat(
            picture,
            width=self._width,
            height=self._height,
            format="rgb24",
            src_color_range=ColorRange(picture.color_range).name,
            dst_color_range=ColorRange.JPEG.name,
            **({"threads": 1} if _takes_threads(VideoReformatter) else {}),
        )
        return self._orientation.apply(rgb.to_ndarray())

    def release(self) -> None:
        """Free what has been set up, some 100 KB; it is set up again when needed."""
        self._reformatter = None


@cache
def _takes_threads(reformatter: Any) -> bool:
    """Not in PyAV 14, which converts in one thread."""
    return "threads" in (reformatter.reformat.__doc__ or "")


def _display_matrix(picture: av.VideoFrame) -> tuple[float, float, float, float]:
    """a, b, c, d of x' = ax + cy, y' = bx + dy (ISO 14496-12)."""
    try:
        side_data: Any = picture.side_data
    except ValueError:  # PyAV does not know some other side data of the picture
        turn = math.radians(picture.rotation)  # tells a turn, though not a mirror
        return math.cos(turn), -math.sin(turn), math.sin(turn), math.cos(turn)
    if "DISPLAYMATRIX" not in side_data:
        return 1, 0, 0, 1
    a, b, _, c, d, *_ = np.frombuffer(bytes(side_data["DISPLAYMATRIX"]), np.int32).tolist()
    return a, b, c, d
