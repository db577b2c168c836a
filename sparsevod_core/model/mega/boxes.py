"""Boxes of MEGA, whose corners are pixels (py-faster-rcnn's convention: a box is x2 − x1 + 1 wide).

Such a box covers the area between the outer edges of its corner pixels. `to_edges` returns that
area as an ordinary box, and the detector works on these: their code, IoU and NMS are the usual
ones.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from sparsevod_core.model.two_stage.box_code import Limits

PIXEL_CORNERS = Limits(smallest_growth=-math.inf, corner_px=1)
CELL_PX = 16  # stride of the map, and side of the anchor that all others are made of


def to_edges(boxes_xyxy: Float[Tensor, "*n 4"]) -> Float[Tensor, "*n 4"]:
    """Return boxes between corner pixels as boxes between their outer edges."""
    return boxes_xyxy + boxes_xyxy.new_tensor([0.0, 0.0, 1.0, 1.0])


def to_pixels(boxes_xyxy: Float[Tensor, "*n 4"]) -> Float[Tensor, "*n 4"]:
    """Return boxes between edges as boxes between corner pixels: the inverse of `to_edges`."""
    return boxes_xyxy - boxes_xyxy.new_tensor([0.0, 0.0, 1.0, 1.0])


def pixel_anchors(sides: Sequence[float], ratios: Sequence[float]) -> Float[Tensor, "A 4"]:
    """Return the anchors of a map's first position (see `to_edges`), as py-faster-rcnn makes them.

    Their sides are multiples of those of a box of 16 × 16 pixels, which are rounded after its ratio
    is changed: 23 × 12, 16 × 16 and 11 × 22 for the ratios 0.5, 1 and 2.

    Args:
        sides: square roots of the areas in pixels, all of them for the first ratio, then the next.
        ratios: heights divided by widths.
    """
    ratio = torch.tensor(ratios)
    width = (CELL_PX / ratio.sqrt()).round()
    cells = torch.stack([width, (width * ratio).round()], dim=-1)  # [ratios, w h]
    scales = torch.tensor(sides) / CELL_PX
    half = (cells[:, None] * scales[:, None]).flatten(0, 1) / 2
    return torch.cat([CELL_PX / 2 - half, CELL_PX / 2 + half], dim=-1)
