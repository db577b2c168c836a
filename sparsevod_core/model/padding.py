"""Padding of frames in a batch: which positions of a map belong to the image."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Int
from torch import Tensor


def inside(
    image_sizes: Int[Tensor, "B 2"], map_size: Sequence[int], stride: int
) -> Bool[Tensor, "B H W"]:
    """Return which positions of a map of that stride begin inside the image.

    Args:
        image_sizes: (height, width) of each image in pixels.
        map_size: (H, W), number of positions.
    """
    device = image_sizes.device
    lines, columns = (torch.arange(side, device=device) * stride for side in map_size)
    return (lines < image_sizes[:, :1])[:, :, None] & (columns < image_sizes[:, 1:])[:, None, :]
