"""Map of an image's features as rows, and which of its positions are the image."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from sparsevod_core.model.padding import inside


@dataclass(frozen=True, slots=True)
class ImageMap:
    """Features of every position of a map of B images.

    Attributes:
        rows: features, line by line.
        inside: which positions are the image; the others are padding, right and below.
    """

    rows: Float[Tensor, "B HW C"]
    inside: Bool[Tensor, "B h w"]

    def __getitem__(self, images: slice) -> ImageMap:
        """Return the maps of some of the images."""
        return ImageMap(self.rows[images], self.inside[images])

    def with_rows(self, rows: Float[Tensor, "B HW C"]) -> ImageMap:
        """Return other features of the same positions."""
        return ImageMap(rows, self.inside)

    @property
    def size(self) -> tuple[int, int]:
        """(height, width)."""
        height, width = self.inside.shape[-2:]
        return height, width

    @property
    def padding(self) -> Bool[Tensor, "B HW"]:
        """Which rows are padding."""
        return ~self.inside.flatten(1)

    @property
    def image_share(self) -> Float[Tensor, "B 2"]:
        """Share of the map's width and height that is the image, 0..1."""
        line, column = self.inside[:, 0], self.inside[:, :, 0]
        return torch.stack([line.float().mean(dim=1), column.float().mean(dim=1)], dim=-1)


def positions_inside(
    image_sizes: Int[Tensor, "B 2"], padded_size: tuple[int, int], map_size: tuple[int, int]
) -> Bool[Tensor, "B h w"]:
    """Return which positions of a map belong to the image, as DETR decides it.

    Args:
        image_sizes: unpadded (height, width) of each image in pixels.
        padded_size: (height, width) of the padded images in pixels.
        map_size: (height, width) of the map. A position stands for the pixel that interpolation to
            the nearest neighbor gives it.
    """
    pixels = inside(image_sizes, padded_size, stride=1)
    return F.interpolate(pixels[:, None].float(), size=map_size).bool()[:, 0]
