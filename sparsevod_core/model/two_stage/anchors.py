"""Anchors of Faster R-CNN (Ren et al., NeurIPS 2015): the boxes that the RPN scores and refines."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor


def centered_anchors(sizes: Sequence[float], ratios: Sequence[float]) -> Float[Tensor, "A 4"]:
    """Return anchors around (0, 0): all sizes of the first ratio, then of the next.

    Args:
        sizes: square roots of the areas, in pixels. Sides are not rounded, as in MMDetection and
            unlike torchvision.
        ratios: heights divided by widths.
    """
    roots = torch.tensor(ratios).sqrt()[:, None]  # [ratios, 1]
    sides = torch.tensor(sizes)
    half = torch.stack([sides / roots, sides * roots], dim=-1).flatten(0, 1) / 2  # [A, 2] = w h
    return torch.cat([-half, half], dim=-1)


def grid_anchors(
    base_anchors: Float[Tensor, "A 4"], map_size: Sequence[int], stride: int
) -> Float[Tensor, "HWA 4"]:
    """Return the anchors of all positions of a map: those of the first one, then of the next.

    Args:
        base_anchors: anchors of the position (0, 0).
        map_size: (H, W), number of positions.
        stride: distance of positions in pixels.
    """
    y, x = torch.meshgrid(
        *(torch.arange(side, device=base_anchors.device) * stride for side in map_size),
        indexing="ij",
    )
    offsets = torch.stack([x, y, x, y], dim=-1)  # [H, W, 4]
    return (offsets[:, :, None] + base_anchors).reshape(-1, 4)
