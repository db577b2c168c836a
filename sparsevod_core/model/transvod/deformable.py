"""Deformable attention: each query reads a map at a few learned points (Zhu et al., ICLR 2021)."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from sparsevod_core.model.transvod.image_map import ImageMap


class DeformableAttention(nn.Module):
    """Deformable attention to a single map.

    Args:
        channels: C.
        num_heads: heads, each of which reads C / heads channels.
        num_points: points at which a head reads the map for each query.
    """

    def __init__(self, *, channels: int, num_heads: int, num_points: int) -> None:
        super().__init__()
        self.num_heads, self.num_points = num_heads, num_points
        self.sampling_offsets = nn.Linear(channels, num_heads * num_points * 2)
        self.attention_weights = nn.Linear(channels, num_heads * num_points)
        self.values = nn.Linear(channels, channels)
        self.output = nn.Linear(channels, channels)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Let head h look in direction 360°·h / heads, its points at distances 1, 2, ..."""
        angles = torch.arange(self.num_heads) * (2 * math.pi / self.num_heads)
        directions = torch.stack([angles.cos(), angles.sin()], dim=-1)
        directions /= directions.abs().amax(dim=-1, keepdim=True)
        distances = torch.arange(1, self.num_points + 1)
        with torch.no_grad():
            self.sampling_offsets.bias.copy_(
                (directions[:, None] * distances[:, None]).flatten()  # [heads, points, 2]
            )
        nn.init.zeros_(self.sampling_offsets.weight)
        nn.init.zeros_(self.attention_weights.weight)
        nn.init.zeros_(self.attention_weights.bias)
        for layer in (self.values, self.output):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(
        self,
        queries: Float[Tensor, "B Q C"],
        references: Float[Tensor, "B Q points_or_boxes"],
        image_map: ImageMap,
        padding: Bool[Tensor, "B HW"] | None,
        location_copies: int = 1,
    ) -> Float[Tensor, "B Q C"]:
        """Return what the queries read.

        Args:
            queries: they determine the points and their weights.
            references: where each query looks: points (x, y) or boxes (cx, cy, w, h), as shares of
                the image without its padding. Offsets from points are in positions of the map,
                those from boxes in shares of half the box.
            image_map: what is read.
            padding: positions whose values are zero; None: no position's.
            location_copies: S reproduces an error of TransVOD, see `TemporalQueries`.
        """
        values = self.values(image_map.rows)
        if padding is not None:
            values = values.masked_fill(padding[..., None], 0)
        grid = (self.num_heads, self.num_points)
        offsets = self.sampling_offsets(queries).unflatten(-1, (*grid, 2)).to(references.dtype)
        weights = self.attention_weights(queries).unflatten(-1, grid).softmax(dim=-1)
        locations = self._locations(references, offsets, image_map)
        if location_copies > 1:
            locations = _repeated(locations, location_copies)
        return self.output(sample(values, image_map.size, locations, weights))

    def _locations(
        self,
        references: Float[Tensor, "B Q points_or_boxes"],
        offsets: Float[Tensor, "B Q heads points 2"],
        image_map: ImageMap,
    ) -> Float[Tensor, "B Q heads points 2"]:
        """Return the locations to be read, as shares of the map with its padding."""
        share = image_map.image_share[:, None]  # [B, 1, 2]
        center = (references[..., :2] * share)[:, :, None, None]
        if references.shape[-1] == 2:
            height, width = image_map.size
            x, y = offsets.unbind(-1)
            return center + torch.stack([x / width, y / height], dim=-1)
        half_size = (references[..., 2:] * share / 2)[:, :, None, None]
        return center + offsets / self.num_points * half_size


def sample(
    values: Float[Tensor, "B HW C"],
    map_size: tuple[int, int],
    locations: Float[Tensor, "B Q heads points 2"],
    weights: Float[Tensor, "B Q heads points"],
) -> Float[Tensor, "B Q C"]:
    """Interpolate each head's values bilinearly at its locations, and sum them with the weights.

    Locations are (x, y) in 0..1 from edge to edge of the map; outside, values are zero. The
    interpolation has the precision of the locations, which must be fine for large maps.
    """
    batch, _, heads, _ = weights.shape
    maps = values.transpose(1, 2).unflatten(-1, map_size)  # [B, C, h, w]
    sampled = F.grid_sample(
        maps.unflatten(1, (heads, -1)).flatten(0, 1).to(locations.dtype),  # [B·heads, d, h, w]
        (2 * locations - 1).transpose(1, 2).flatten(0, 1),  # [B·heads, Q, points, 2]
        mode="bilinear",
        padding_mode="zeros",
        align_corners=False,
    )  # [B·heads, d, Q, points]
    weights = weights.transpose(1, 2).flatten(0, 1)[:, None]  # [B·heads, 1, Q, points]
    read = (sampled * weights).sum(dim=-1).unflatten(0, (batch, heads))  # [B, heads, d, Q]
    return read.flatten(1, 2).transpose(1, 2).to(values.dtype)


def _repeated(
    locations: Float[Tensor, "B Q heads points 2"], copies: int
) -> Float[Tensor, "B Q heads points 2"]:
    """Give (query, head) pair j the locations of pair j // copies."""
    pairs = locations.flatten(1, 2)
    index = torch.arange(pairs.shape[1], device=pairs.device) // copies
    return pairs[:, index].view_as(locations)
