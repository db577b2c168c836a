"""Conversion from RGB to a palette of 256 colors, for GIFs."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import av


class ToPalette:
    """Converts each frame to the palette that suits it best, with FFmpeg's filters.

    Args:
        width, height: Size of the frames in pixels.
        time_base: Unit of their times in seconds.
    """

    def __init__(self, width: int, height: int, time_base: Fraction) -> None:
        self._size = width, height
        self._time_base = time_base
        self._graph: av.filter.Graph | None = None

    def __call__(self, frame: av.VideoFrame, tick: int) -> av.VideoFrame:
        """Return an RGB frame in `pal8`, to be shown at `tick`."""
        frame.time_base, frame.pts = self._time_base, tick
        if self._graph is None:
            self._graph = self._make()
        self._graph.push(frame)
        converted = self._graph.pull()
        converted.time_base, converted.pts = self._time_base, tick
        return converted  # type: ignore[return-value]

    def _make(self) -> av.filter.Graph:
        import av

        graph = av.filter.Graph()
        width, height = self._size
        source = graph.add_buffer(
            width=width, height=height, format=av.VideoFormat("rgb24"), time_base=self._time_base
        )
        split = graph.add("split")
        generate = graph.add("palettegen", "stats_mode=single")
        use = graph.add("paletteuse", "new=1:dither=bayer:bayer_scale=4")
        sink = graph.add("buffersink")
        source.link_to(split)
        split.link_to(generate, 0, 0)
        split.link_to(use, 1, 0)
        generate.link_to(use, 0, 1)
        use.link_to(sink)
        graph.configure()
        return graph
