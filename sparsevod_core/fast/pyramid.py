"""Feature pyramid of which only the tiles that RoIs read are computed."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from sparsevod_core.fast.backbone import PyramidLayers
from sparsevod_core.model.roi_align import PyramidRoIAlign, RowLayout, Samples

TILE = 8  # positions per side; large enough to convolve as fast per position as an entire map


class LazyPyramid:
    """P2..P5 in tiles, each computed when a box first reads it.

    Half of the FPN's cost is the last convolution of P2, and RoIAlign reads P2 only under small
    boxes. Each position has the value that the full map would have.
    """

    def __init__(
        self,
        layers: PyramidLayers,
        maps: Sequence[Float[Tensor, "B _ _ _"]],
        image_sizes: Int[Tensor, "B 2"],
        roi_align: PyramidRoIAlign,
    ) -> None:
        self.image_sizes = image_sizes
        self._layers = layers
        self._maps = maps  # C2..C5
        self._roi_align = roi_align
        self._sizes = [(level.shape[2], level.shape[3]) for level in maps]
        self._batch = len(maps[0])
        self._grids = [(-(-height // TILE), -(-width // TILE)) for height, width in self._sizes]
        self._layout = RowLayout.of(self._sizes, self._batch, TILE)
        channels = layers.output[0].out_channels
        dtype = roi_align.kernels.pooled_dtype or maps[0].dtype
        self._rows = maps[0].new_empty(self._layout.num_rows, channels, dtype=dtype)
        self._is_ready = [torch.zeros(self._batch, *grid, dtype=torch.bool) for grid in self._grids]
        self._inner: dict[int, Tensor] = {}

    def level(self, number: int) -> Float[Tensor, "B C _ _"]:
        """Return the entire map of a level."""
        self._compute(number, torch.ones_like(self._is_ready[number]))
        start = self._layout.starts[number]
        rows = self._rows[start : start + self._batch * self._layout.areas[number]]
        height, width = self._sizes[number]
        lines, columns = (tiles * TILE for tiles in self._grids[number])
        level = rows.view(self._batch, lines, columns, -1)[:, :height, :width].permute(0, 3, 1, 2)
        return level.to(self._maps[0].dtype)

    def pool(self, boxes_xyxy: Float[Tensor, "B N 4"]) -> Float[Tensor, "B N C P P"]:
        """Return the RoI features of the boxes, computing the tiles that they read."""
        samples = self._roi_align.samples(self._sizes, boxes_xyxy)
        for number, grid in enumerate(self._grids):
            self._compute(number, _tiles_read(samples, number, grid))
        return self._roi_align(self._rows, self._layout, samples).to(self._maps[0].dtype)

    def _compute(self, number: int, wanted: Bool[Tensor, "B lines columns"]) -> None:
        """Compute the wanted tiles of a level that are not ready."""
        image, line, column = (wanted & ~self._is_ready[number]).nonzero(as_tuple=True)
        if not len(image):
            return
        self._is_ready[number] |= wanted
        windows = self._windows(number, image, line, column)
        output = self._layers.output[number]
        tiles = F.conv2d(windows, output.weight, output.bias)
        tiles = self._layers.norms[number](tiles).permute(0, 2, 3, 1)  # [t, TILE, TILE, C]
        inside = torch.arange(TILE)
        start = self._layout.starts[number] + image * self._layout.areas[number]
        row = start[:, None] + (line[:, None] * TILE + inside) * self._layout.pitches[number]
        row = row[:, :, None] + (column[:, None] * TILE + inside)[:, None, :]
        tiles = tiles.reshape(-1, tiles.shape[-1]).to(self._rows.dtype)
        self._rows.index_copy_(0, row.flatten(), tiles)

    def _windows(
        self,
        number: int,
        image: Int[Tensor, " t"],
        line: Int[Tensor, " t"],
        column: Int[Tensor, " t"],
    ) -> Float[Tensor, "t C side side"]:
        """Return the inputs of the last convolution: tiles with a border of one position.

        Positions outside the map are zero. For the finest level only these windows are computed, as
        no other level needs the rest.
        """
        height, width = self._sizes[number]
        window = torch.arange(-1, TILE + 1)
        lines = (line[:, None] * TILE + window)[:, :, None]  # [t, side, 1]
        columns = (column[:, None] * TILE + window)[:, None, :]
        is_outside = (lines < 0) | (lines >= height) | (columns < 0) | (columns >= width)
        lines, columns = lines.clamp(0, height - 1), columns.clamp(0, width - 1)
        place = (image[:, None, None] * height + lines) * width + columns
        if number > 0:
            inner = self._inner_map(number)
            windows = _rows(inner).index_select(0, place.flatten())
        else:
            above = self._inner_map(1)
            below = _rows(self._maps[0]).index_select(0, place.flatten())
            _, _, height, width = above.shape
            place = (image[:, None, None] * height + lines // 2) * width + columns // 2
            lateral = self._layers.lateral[0]
            windows = F.linear(below, lateral.weight.flatten(1), lateral.bias)
            windows += _rows(above).index_select(0, place.flatten())
        windows = windows.view(*is_outside.shape, -1)
        windows[is_outside] = 0
        return windows.permute(0, 3, 1, 2)

    def _inner_map(self, number: int) -> Float[Tensor, "B C _ _"]:
        """Return a level before its last convolution; needs all coarser levels."""
        if number not in self._inner:
            above = self._inner_map(number + 1) if number + 1 < len(self._maps) else None
            self._inner[number] = self._layers.inner(number, self._maps[number], above)
        return self._inner[number]


def _tiles_read(
    samples: Samples, number: int, grid: tuple[int, int]
) -> Bool[Tensor, "B lines columns"]:
    """Return the tiles of a level that any box reads, from the lines and columns of its samples."""
    is_on_level = (samples.levels == number)[..., None]  # [B, N, 1]
    marks = []
    for positions, count in ((samples.lines, grid[0]), (samples.columns, grid[1])):
        # Samples of boxes on other levels may exceed this level's grid; their marks are zeroed.
        tile = (positions.flatten(2) // TILE).clamp(max=count - 1)
        marked = torch.zeros(*samples.levels.shape, count).scatter_(2, tile, 1.0)
        marks.append(marked * is_on_level)
    lines, columns = marks
    return lines.transpose(1, 2) @ columns > 0


def _rows(level: Float[Tensor, "B C H W"]) -> Float[Tensor, "positions C"]:
    """Return the positions of a channels-last map as rows."""
    return level.permute(0, 2, 3, 1).flatten(0, 2)
