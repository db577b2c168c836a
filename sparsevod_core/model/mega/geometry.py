"""Relative geometry of boxes as a weight of attention (Hu et al., Relation Networks, CVPR 2018)."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

WAVES = 8  # angles of each of the four numbers that describe a pair of boxes
CHANNELS = 4 * 2 * WAVES  # sines and cosines of a pair
_SCALE = 100
_LONGEST = 1000
_SMALLEST_SIZE_PX = 1e-3
_SMALLEST_DISTANCE = 1e-3
_SMALLEST_WEIGHT = 1e-6
_MOST_ANGLES = 2**22  # are computed at once; those of all pairs would take gigabytes


class GeometryWeight(nn.Module):
    """Logarithm of a learned weight of each pair of boxes, one per attention head.

    The weight is the ReLU of a linear function of sines and cosines. A pair is described by the
    numbers ln(|Δx| / w + .001), ln(|Δy| / h + .001), ln(w / w') and ln(h / h'), with w and h of the
    first box. Each number x has 8 sines, then 8 cosines, of the angles 100 x / 1000^(k/8),
    k = 0..7. The zero boxes of padding count as small boxes.
    """

    def __init__(self, *, num_heads: int) -> None:
        super().__init__()
        self.weight = nn.Linear(CHANNELS, num_heads)

    def forward(
        self, boxes_xyxy: Float[Tensor, "B N 4"], others_xyxy: Float[Tensor, "B R 4"]
    ) -> Float[Tensor, "B heads N R"]:
        """Return the summand of the attention logits."""
        angles_of_box = len(boxes_xyxy) * others_xyxy.shape[1] * 2 * WAVES
        at_once = max(1, _MOST_ANGLES // max(1, angles_of_box))
        parts = [self.sums(part, others_xyxy) for part in boxes_xyxy.split(at_once, dim=1)]
        return (torch.cat(parts, dim=2).clamp(min=0) + _SMALLEST_WEIGHT).log()

    def sums(
        self, boxes_xyxy: Float[Tensor, "B n 4"], others_xyxy: Float[Tensor, "B R 4"]
    ) -> Float[Tensor, "B heads n R"]:
        """Return the linear function of sines and cosines."""
        waves = self.weight.weight.unflatten(1, (2, 2, 2, WAVES))  # number, axis, sine or cosine
        of_distance, of_ratio = waves.unbind(1)
        center, size = _center_and_size(boxes_xyxy)
        other_center, other_size = _center_and_size(others_xyxy)
        distance = (center[..., None] - other_center[:, :, None]).abs() / size[..., None]
        sums = _of_numbers((distance + _SMALLEST_DISTANCE).log(), of_distance)
        sums = sums + _of_differences(size.log(), other_size.log(), of_ratio)
        return sums + self.weight.bias[:, None, None]


def _of_numbers(
    numbers: Float[Tensor, "B 2 n R"], weights: Float[Tensor, "heads 2 2 waves"]
) -> Float[Tensor, "B heads n R"]:
    """Return the weighted sum of the sines and cosines of numbers."""
    angles = _angles(numbers).flatten(3).flatten(1, 2)  # [B, 2 waves, n R]
    sine, cosine = (wave.to(weights.dtype) for wave in (angles.sin(), angles.cos()))
    of_sines, of_cosines = (
        part.flatten(1).expand(len(angles), -1, -1) for part in weights.unbind(2)
    )
    return torch.baddbmm(of_sines @ sine, of_cosines, cosine).unflatten(2, numbers.shape[2:])


def _of_differences(
    numbers: Float[Tensor, "B 2 n"],
    others: Float[Tensor, "B 2 R"],
    weights: Float[Tensor, "heads 2 2 waves"],
) -> Float[Tensor, "B heads n R"]:
    """Return the weighted sum of the sines and cosines of all differences of numbers.

    With sin(a - b) = sin a cos b - cos a sin b, and the like, no sine of a pair is needed.
    """
    waves = [
        wave(_angles(one[..., None])[..., 0]).to(weights.dtype)  # [B, 2, waves, n or R]
        for one in (numbers, others)
        for wave in (torch.sin, torch.cos)
    ]
    sine, cosine, other_sine, other_cosine = waves
    sine, cosine = sine[:, None], cosine[:, None]
    of_sines, of_cosines = (part[..., None] for part in weights.unbind(2))  # [heads, 2, waves, 1]
    with_cosine = of_sines * sine + of_cosines * cosine
    with_sine = of_cosines * sine - of_sines * cosine
    first = torch.cat([with_cosine, with_sine], dim=2).flatten(2, 3)  # [B, heads, 4 waves, n]
    second = torch.cat([other_cosine, other_sine], dim=1).flatten(1, 2)[
        :, None
    ]  # [B, 1, 4 waves, R]
    return first.transpose(2, 3) @ second


def _angles(numbers: Float[Tensor, "B 2 n m"]) -> Float[Tensor, "B 2 waves n m"]:
    """Return 100 x / 1000^(k/8) of numbers x."""
    powers = torch.arange(WAVES, device=numbers.device, dtype=numbers.dtype) / WAVES
    return numbers[:, :, None] * (_SCALE / _LONGEST**powers)[:, None, None]


def _center_and_size(boxes_xyxy: Tensor) -> tuple[Float[Tensor, "B 2 n"], Float[Tensor, "B 2 n"]]:
    low, high = boxes_xyxy.transpose(1, 2).split(2, dim=1)
    return (low + high) / 2, (high - low).clamp(min=_SMALLEST_SIZE_PX)
