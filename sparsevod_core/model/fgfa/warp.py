"""Warping of the maps of support frames to a target frame along optical flow."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor


def warp(
    maps: Float[Tensor, "B C h w"], flow: Float[Tensor, "B 2 _ _"], stride: int
) -> Float[Tensor, "B C h w"]:
    """Return the maps sampled where the flow leads, bilinearly; beyond the border as at the border.

    As in MMTracking, the scale of the sampled coordinates is off by one position per side: a flow
    of zero shrinks the map by (w - 1) / w. Published weights were trained with it.

    Args:
        maps: maps of support frames.
        flow: pixels of the image, as (x, y), at any resolution. MMTracking upsamples it to the
            image before it reduces it to the map. From half the stride both give the same numbers.
        stride: of the maps, in pixels of the image.
    """
    height, width = maps.shape[-2:]
    wide = torch.promote_types(maps.dtype, torch.float32)  # bf16 cannot hold fractions of positions
    flow = F.interpolate(flow.to(wide), size=(height, width), mode="bilinear") / stride
    lines, columns = (torch.arange(side, device=flow.device) for side in (height, width))
    x = (columns + flow[:, 0]) / width  # [B, h, w]
    y = (lines[:, None] + flow[:, 1]) / height
    grid = torch.stack([x, y], dim=-1) * 2 - 1
    warped = F.grid_sample(maps.to(wide), grid, padding_mode="border", align_corners=True)
    return warped.to(maps.dtype)
