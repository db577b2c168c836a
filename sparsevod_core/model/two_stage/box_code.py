"""Box code of Faster R-CNN (Ren et al., NeurIPS 2015): boxes relative to anchors or proposals."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

LARGEST_GROWTH = -math.log(16 / 1000)  # of a size, as the logarithm of a ratio


@dataclass(frozen=True, slots=True)
class Limits:
    """How far decoding may take a box.

    Attributes:
        smallest_growth: the logarithm of a ratio of sizes is clamped to this and `LARGEST_GROWTH`.
        corner_px: size of a corner, which clipping keeps in the image: 0 for corners that are
            points; 1 for corners that are pixels, where boxes lie between their outer edges.
    """

    smallest_growth: float
    corner_px: float


MMDETECTION = Limits(smallest_growth=-LARGEST_GROWTH, corner_px=0)


def encode(
    boxes_xyxy: Float[Tensor, "*#n 4"], targets_xyxy: Float[Tensor, "*#n 4"], stds: Sequence[float]
) -> Float[Tensor, "*#n 4"]:
    """Return the deltas (dx, dy, dw, dh) that lead from boxes to targets.

    Args:
        boxes_xyxy: anchors or proposals with positive width and height.
        targets_xyxy: boxes to reach, with positive width and height.
        stds: the four deltas are divided by these numbers.
    """
    center, size = _center_and_size(boxes_xyxy)
    target_center, target_size = _center_and_size(targets_xyxy)
    deltas = torch.cat([(target_center - center) / size, (target_size / size).log()], dim=-1)
    return deltas / deltas.new_tensor(stds)


def decode(
    boxes_xyxy: Float[Tensor, "*#n 4"],
    deltas: Float[Tensor, "*#n 4"],
    stds: Sequence[float],
    image_sizes: Int[Tensor, "*b 2"] | None = None,
    limits: Limits = MMDETECTION,
) -> Float[Tensor, "*#n 4"]:
    """Return the boxes that deltas lead to, in the dtype of `boxes_xyxy`: the inverse of `encode`.

    Boxes and deltas broadcast: boxes `[B, N, 1, 4]` and deltas `[B, N, K, 4]` give a box per class.

    Args:
        boxes_xyxy: anchors or proposals.
        deltas: (dx, dy, dw, dh); dw and dh are clamped after scaling.
        stds: the four deltas are multiplied by these numbers.
        image_sizes: unpadded (height, width) to which the boxes are clipped; its dimensions are the
            first ones of the boxes. None: boxes may leave the image.
        limits: bounds of growth and of clipping.
    """
    center, size = _center_and_size(boxes_xyxy)
    shift, growth = (deltas.to(boxes_xyxy.dtype) * boxes_xyxy.new_tensor(stds)).split(2, dim=-1)
    center = center + size * shift
    half = size * growth.clamp(limits.smallest_growth, LARGEST_GROWTH).exp() / 2
    decoded = torch.cat([center - half, center + half], dim=-1)
    return decoded if image_sizes is None else clip(decoded, image_sizes, limits.corner_px)


def clip(
    boxes_xyxy: Float[Tensor, "*n 4"], image_sizes: Int[Tensor, "*b 2"], corner_px: float = 0
) -> Float[Tensor, "*n 4"]:
    """Return boxes clipped to [0, width] × [0, height] of their unpadded image.

    Args:
        image_sizes: (height, width); its dimensions are the first ones of the boxes.
        corner_px: see `Limits`.
    """
    limits = image_sizes[..., [1, 0, 1, 0]]  # w h w h
    between = boxes_xyxy.dim() - image_sizes.dim()
    limits = limits.reshape(*image_sizes.shape[:-1], *[1] * between, 4).to(boxes_xyxy)
    lowest = boxes_xyxy.new_tensor([0, 0, corner_px, corner_px])
    highest = limits - boxes_xyxy.new_tensor([corner_px, corner_px, 0, 0])
    return boxes_xyxy.maximum(lowest).minimum(highest)


def _center_and_size(boxes_xyxy: Tensor) -> tuple[Tensor, Tensor]:
    low, high = boxes_xyxy.split(2, dim=-1)
    return (low + high) / 2, high - low
