"""One stage of the temporal dynamic head (paper, Fig. 2): proposals in, refined proposals out."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from sparsevod_core.model.interaction import InstanceInteraction
from sparsevod_core.model.proposal_aggregation import AttentionAggregation, MeanAggregation
from sparsevod_core.model.support import StageMemory, SupportMaps
from sparsevod_core.model.temporal_roi import TemporalRoIFeatures

# Logits, refined boxes and refined proposal features.
Refined = tuple[Float[Tensor, "B N K"], Float[Tensor, "B N 4"], Float[Tensor, "B N C"]]


@dataclass(frozen=True, slots=True)
class BoxDecoder:
    """Decoder of box deltas (dx, dy, dw, dh); dw and dh are clamped to [min_size, max_size]."""

    min_size: float
    max_size: float
    shift_scale: float = 0.5
    size_scale: float = 1.0

    def __call__(
        self, boxes_xyxy: Float[Tensor, "*n 4"], deltas: Float[Tensor, "*n 4"]
    ) -> Float[Tensor, "*n 4"]:
        """Return the refined boxes in the dtype of `boxes_xyxy`; they may leave the image."""
        shift, growth = deltas.to(boxes_xyxy.dtype).split(2, dim=-1)
        size = boxes_xyxy[..., 2:] - boxes_xyxy[..., :2]
        center = boxes_xyxy[..., :2] + size / 2 + (self.shift_scale * shift) * size
        growth = (self.size_scale * growth).clamp(self.min_size, self.max_size)
        half = size * growth.exp() / 2
        return torch.cat([center - half, center + half], dim=-1)


class RefinementStage(nn.Module):
    """TFE, self-attention, instance interaction, FFN, SPFA, then class and box branches.

    Args:
        temporal_roi: TFE, or None if it is off.
        aggregation: SPFA, or None if it is off.
        channels: C, number of channels of proposal and RoI features.
        roi_size: P, number of bins per side of a RoI.
        num_cls_layers, num_reg_layers: depth of the class and box branches.
    """

    def __init__(
        self,
        *,
        temporal_roi: TemporalRoIFeatures | None,
        aggregation: AttentionAggregation | MeanAggregation | None,
        box_decoder: BoxDecoder,
        channels: int,
        num_heads: int,
        ffn_dim: int,
        dynamic_dim: int,
        num_classes: int,
        roi_size: int = 7,
        num_cls_layers: int = 1,
        num_reg_layers: int = 3,
    ) -> None:
        super().__init__()
        self.temporal_roi = temporal_roi
        self.self_attention = nn.MultiheadAttention(channels, num_heads, batch_first=True)
        self.self_attention_norm = nn.LayerNorm(channels)
        self.interaction = InstanceInteraction(
            channels=channels, dynamic_dim=dynamic_dim, roi_size=roi_size
        )
        self.interaction_norm = nn.LayerNorm(channels)
        self.ffn = nn.Sequential(
            nn.Linear(channels, ffn_dim), nn.ReLU(), nn.Linear(ffn_dim, channels)
        )
        self.ffn_norm = nn.LayerNorm(channels)
        self.aggregation = aggregation
        self.class_branch = _branch(channels, num_cls_layers)
        self.class_logits = nn.Linear(channels, num_classes)
        self.box_branch = _branch(channels, num_reg_layers)
        self.box_deltas = nn.Linear(channels, 4)
        self.box_decoder = box_decoder

    def forward(
        self,
        features: Float[Tensor, "B N C"],
        boxes_xyxy: Float[Tensor, "B N 4"],
        roi_features: Float[Tensor, "B N C P P"],
        memory: StageMemory | None,
    ) -> Refined:
        """Return logits, refined boxes and refined proposal features of target frames."""
        if self.temporal_roi is not None and memory is not None:
            assert memory.maps is not None
            roi_features = self.temporal_roi(roi_features, memory.maps, memory.taps)
        features = self.interact(features, roi_features)
        if self.aggregation is not None:
            features = self.aggregation(features, None if memory is None else memory.proposals)
        logits = self.class_logits(self.class_branch(features))
        return logits, self.refine(boxes_xyxy, features), features

    def remember(
        self, features: Float[Tensor, "F N C"], maps: SupportMaps | None, videos: int
    ) -> StageMemory:
        """Return this stage's memory of support frames.

        Args:
            features: proposal features of the support frames after `interact`.
            maps: support maps, or None if TFE is off.
            videos: V, number of videos among which the frames are divided.
        """
        taps = None
        if self.temporal_roi is not None and maps is not None:
            taps = self.temporal_roi.precompute(maps)
        proposals: tuple[Tensor, ...] = ()
        if self.aggregation is not None:
            projected = self.aggregation.project(features)
            proposals = tuple(x.unflatten(0, (videos, -1)) for x in projected)
        return StageMemory(maps, taps, proposals)

    def interact(
        self, features: Float[Tensor, "B N C"], roi_features: Float[Tensor, "B N C P P"]
    ) -> Float[Tensor, "B N C"]:
        """Return the object features of Sparse R-CNN: self-attention, interaction and FFN."""
        features = self.attend(features)
        objects = self.interaction(features.flatten(0, 1), roi_features.flatten(0, 1))
        features = self.interaction_norm(features + objects.view_as(features))
        return self.ffn_norm(features + self.ffn(features))

    def attend(self, features: Float[Tensor, "B N C"]) -> Float[Tensor, "B N C"]:
        """Apply self-attention among the proposals of each frame."""
        attended, _ = self.self_attention(features, features, features, need_weights=False)
        return self.self_attention_norm(features + attended)

    def refine(
        self, boxes_xyxy: Float[Tensor, "B N 4"], features: Float[Tensor, "B N C"]
    ) -> Float[Tensor, "B N 4"]:
        """Return the boxes refined by the box branch."""
        return self.box_decoder(boxes_xyxy, self.box_deltas(self.box_branch(features)))


def _branch(channels: int, depth: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for _ in range(depth):
        layers += [nn.Linear(channels, channels, bias=False), nn.LayerNorm(channels), nn.ReLU()]
    return nn.Sequential(*layers)
