"""Relative geometry of boxes as a weight of attention (Hu et al., Relation Networks, CVPR 2018)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

WAVES = 8  # wavelengths of each of the four numbers that describe a pair of boxes
CHANNELS = 4 * 2 * WAVES
_SCALE = 100
_LONGEST = 1000
_SMALLEST_SIZE_PX = 1e-3
_SMALLEST_DISTANCE = 1e-3
_SMALLEST_WEIGHT = 1e-6
_MOST_NUMBERS = 2**24  # of the embedding of a chunk of query boxes, which is not needed as a whole


def embed_pairs(
    boxes_xyxy: Float[Tensor, "B N 4"], others_xyxy: Float[Tensor, "B R 4"]
) -> Float[Tensor, "B N R channels"]:
    """Return sines and cosines of relative position and size of every pair of boxes.

    A pair is described by ln(|Δx| / w + .001), ln(|Δy| / h + .001), ln(w / w') and ln(h / h'), with
    w and h of the first box. Of each number x there are 8 sines, then 8 cosines, of the angles
    100 x / 1000^(k/8), k = 0..7. The zero boxes of padding count as boxes of a small size.
    """
    center, size = _center_and_size(boxes_xyxy[:, :, None])
    other_center, other_size = _center_and_size(others_xyxy[:, None])
    distance = (center - other_center).abs() / size + _SMALLEST_DISTANCE
    numbers = torch.cat([distance, size / other_size], dim=-1).log()  # [B, N, R, 4]
    powers = torch.arange(WAVES, device=numbers.device, dtype=numbers.dtype) / WAVES
    angles = numbers[..., None] * (_SCALE / _LONGEST**powers)
    return torch.cat([angles.sin(), angles.cos()], dim=-1).flatten(-2)


class GeometryWeight(nn.Module):
    """Logarithm of a learned weight of each pair of boxes, one per attention head."""

    def __init__(self, *, num_heads: int) -> None:
        super().__init__()
        self.weight = nn.Linear(CHANNELS, num_heads)

    def forward(
        self, boxes_xyxy: Float[Tensor, "B N 4"], others_xyxy: Float[Tensor, "B R 4"]
    ) -> Float[Tensor, "B heads N R"]:
        """Return the summand of the attention logits."""
        rows = max(1, _MOST_NUMBERS // max(1, len(boxes_xyxy) * others_xyxy.shape[1] * CHANNELS))
        parts = [
            self.weight(embed_pairs(part, others_xyxy).to(self.weight.weight.dtype))
            for part in boxes_xyxy.split(rows, dim=1)
        ]
        return (F.relu(torch.cat(parts, dim=1)) + _SMALLEST_WEIGHT).log().movedim(-1, 1)


def _center_and_size(boxes_xyxy: Tensor) -> tuple[Tensor, Tensor]:
    low, high = boxes_xyxy.split(2, dim=-1)
    return (low + high) / 2, (high - low).clamp(min=_SMALLEST_SIZE_PX)
