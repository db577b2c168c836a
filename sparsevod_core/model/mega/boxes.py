"""Boxes of MEGA, whose corners are pixels (py-faster-rcnn's convention: a box is x2 − x1 + 1 wide).

Such a box covers the area between the outer edges of its corner pixels. `to_edges` returns that
area as an ordinary box, and the detector works on these: their code, IoU and NMS are the usual
ones.
"""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor


def to_edges(boxes_xyxy: Float[Tensor, "*n 4"]) -> Float[Tensor, "*n 4"]:
    """Return boxes between corner pixels as boxes between their outer edges."""
    return boxes_xyxy + boxes_xyxy.new_tensor([0.0, 0.0, 1.0, 1.0])


def to_pixels(boxes_xyxy: Float[Tensor, "*n 4"]) -> Float[Tensor, "*n 4"]:
    """Return boxes between edges as boxes between corner pixels: the inverse of `to_edges`."""
    return boxes_xyxy - boxes_xyxy.new_tensor([0.0, 0.0, 1.0, 1.0])
