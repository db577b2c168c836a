"""A pyramid computed where a RoI looks at it; target frames and support frames alike."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from sparsevod_core.fast.backbone import PyramidLayers
from sparsevod_core.model.roi_align import MapsAsRows, PyramidRoIAlign, Samples

TILE = 8  # positions per side; a convolution of one tile is as fast per position as one of a map


class LazyPyramid:
    """P2..P5 in tiles, each made when a box first looks at it.

    Half of the FPN's work is the last convolution of P2, of which RoIAlign reads what lies below
    small boxes only. Each position gets the number that the whole map would have.
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
        self._maps = maps
        self._roi_align = roi_align
        self._sizes = [(level.shape[2], level.shape[3]) for level in maps]
        self._batch = len(maps[0])
        self._grids = [(-(-height // TILE), -(-width // TILE)) for height, width in self._sizes]
        self._places = MapsAsRows.of(self._sizes, self._batch, TILE)
        channels = layers.output[0].out_channels
        dtype = roi_align.kernels.pooled_dtype or maps[0].dtype
        self._rows = maps[0].new_empty(self._places.num_rows, channels, dtype=dtype)
        self._is_made = [torch.zeros(self._batch, *grid, dtype=torch.bool) for grid in self._grids]
        self._inner: dict[int, Tensor] = {}

    def level(self, number: int) -> Float[Tensor, "B C _ _"]:
        """The whole map of a level."""
        self._make(number, torch.ones_like(self._is_made[number]))
        height, width = self._sizes[number]
        level = self._level_rows(number)[:, :height, :width].permute(0, 3, 1, 2)
        return level.to(self._maps[0].dtype)

    def pool(self, boxes_xyxy: Float[Tensor, "B N 4"]) -> Float[Tensor, "B N C P P"]:
        """RoIAlign; makes the tiles that it reads."""
        samples = self._roi_align.samples(self._sizes, boxes_xyxy)
        for number, grid in enumerate(self._grids):
            self._make(number, _touched(samples, number, grid))
        return self._roi_align.pool(self._rows, self._places, samples).to(self._maps[0].dtype)

    def _make(self, number: int, wanted: Bool[Tensor, "B lines columns"]) -> None:
        image, line, column = (wanted & ~self._is_made[number]).nonzero(as_tuple=True)
        if not len(image):
            return
        self._is_made[number] |= wanted
        tiles = self._windows(number, image, line, column)
        output = self._layers.output[number]
        made = F.conv2d(tiles, output.weight, output.bias)
        made = self._layers.norms[number](made).permute(0, 2, 3, 1)  # [tiles, TILE, TILE, C]
        inside = torch.arange(TILE)
        pitch = self._places.pitches[number]
        start = self._places.starts[number] + image * self._places.areas[number]
        row = start[:, None] + (line[:, None] * TILE + inside) * pitch
        row = row[:, :, None] + (column[:, None] * TILE + inside)[:, None, :]
        made = made.reshape(-1, made.shape[-1]).to(self._rows.dtype)
        self._rows.index_copy_(0, row.flatten(), made)

    def _windows(
        self,
        number: int,
        image: Int[Tensor, " t"],
        line: Int[Tensor, " t"],
        column: Int[Tensor, " t"],
    ) -> Float[Tensor, "t C side side"]:
        """What the last convolution reads for tiles: with a border of one, zeros outside the map.

        Of the finest level it is made here: no other level needs the rest of it.
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
        """A level before its last convolution; needs the coarser ones."""
        if number not in self._inner:
            above = self._inner_map(number + 1) if number + 1 < len(self._maps) else None
            self._inner[number] = self._layers.inner(number, self._maps[number], above)
        return self._inner[number]

    def _level_rows(self, number: int) -> Float[Tensor, "B lines columns C"]:
        lines, columns = self._grids[number]
        start = self._places.starts[number]
        end = start + self._batch * self._places.areas[number]
        return self._rows[start:end].view(self._batch, lines * TILE, columns * TILE, -1)


def _touched(
    samples: Samples, number: int, grid: tuple[int, int]
) -> Bool[Tensor, "B lines columns"]:
    """Tiles of a level that some box reads, by the lines and the columns that it reads."""
    here = (samples.levels == number)[..., None]  # [B, N, 1]
    marks = []
    for positions, count in ((samples.lines, grid[0]), (samples.columns, grid[1])):
        # Boxes of other levels may lie beyond this one's last tile: they count nothing here.
        tile = (positions.flatten(2) // TILE).clamp(max=count - 1)
        marked = torch.zeros(*samples.levels.shape, count).scatter_(2, tile, 1.0)
        marks.append(marked * here)
    lines, columns = marks
    return lines.transpose(1, 2) @ columns > 0


def _rows(level: Float[Tensor, "B C H W"]) -> Float[Tensor, "positions C"]:
    """The positions of a channels-last map."""
    return level.permute(0, 2, 3, 1).flatten(0, 2)
