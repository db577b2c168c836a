"""Box conversion, area and GIoU. Boxes are [..., 4] tensors in pixels."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor


def cxcywh_to_xyxy(boxes_cxcywh: Float[Tensor, "*n 4"]) -> Float[Tensor, "*n 4"]:
    """Convert center and size to corners."""
    center, size = boxes_cxcywh.split(2, dim=-1)
    return torch.cat([center - size / 2, center + size / 2], dim=-1)


def area(boxes_xyxy: Float[Tensor, "*n 4"]) -> Float[Tensor, "*n"]:
    """Return width times height; negative if one of them is."""
    width, height = (boxes_xyxy[..., 2:] - boxes_xyxy[..., :2]).unbind(-1)
    return width * height


def generalized_iou(
    boxes_a: Float[Tensor, "*#n 4"], boxes_b: Float[Tensor, "*#n 4"], eps: float = 1e-6
) -> Float[Tensor, "*#n"]:
    """Return the GIoU (Rezatofighi et al., CVPR 2019) of boxes that broadcast, in -1..1.

    Pass `boxes_a[..., :, None, :]` and `boxes_b[..., None, :, :]` for all pairs. Union and hull are
    clamped to at least `eps`, as in MMDetection.
    """
    overlap_low = torch.maximum(boxes_a[..., :2], boxes_b[..., :2])
    overlap_high = torch.minimum(boxes_a[..., 2:], boxes_b[..., 2:])
    overlap = (overlap_high - overlap_low).clamp(min=0).prod(-1)
    hull_low = torch.minimum(boxes_a[..., :2], boxes_b[..., :2])
    hull_high = torch.maximum(boxes_a[..., 2:], boxes_b[..., 2:])
    hull = (hull_high - hull_low).clamp(min=0).prod(-1).clamp(min=eps)
    union = (area(boxes_a) + area(boxes_b) - overlap).clamp(min=eps)
    return overlap / union - (hull - union) / hull
