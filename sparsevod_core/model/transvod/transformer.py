"""Deformable DETR with iterative box refinement on a single map (Zhu et al., ICLR 2021).

The encoder refines the features of every position of the map; the decoder turns learned queries
into boxes and class scores, layer by layer.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from sparsevod_core.model.transvod.deformable import DeformableAttention
from sparsevod_core.model.transvod.image_map import ImageMap

CLASS_PRIOR = 0.01  # class score of a query before training
TEMPERATURE = 10_000  # of the sine positions
LOGIT_EPS = 1e-5
FIRST_SIZE = -2.0  # logit of the width and height of boxes before training: 0.12 of the image


@dataclass(frozen=True, slots=True)
class Decoded:
    """Queries after every decoder layer.

    Attributes:
        queries: features after the last layer.
        logits: class scores before the sigmoid, of every layer.
        boxes_cxcywh: boxes as shares of the image without its padding, of every layer.
        points: (x, y) where each query looks first, as shares of the image.
    """

    queries: Float[Tensor, "B N C"]
    logits: Float[Tensor, "T B N K"]
    boxes_cxcywh: Float[Tensor, "T B N 4"]
    points: Float[Tensor, "B N 2"]


class EncoderLayer(nn.Module):
    """Deformable attention of a map to itself, and FFN."""

    def __init__(
        self, *, channels: int, num_heads: int, num_points: int, ffn_dim: int, dropout: float
    ) -> None:
        super().__init__()
        self.attention = DeformableAttention(
            channels=channels, num_heads=num_heads, num_points=num_points
        )
        self.attention_norm = nn.LayerNorm(channels)
        self.ffn = feed_forward(channels, ffn_dim, dropout)
        self.ffn_norm = nn.LayerNorm(channels)
        self.dropout = nn.Dropout(dropout)
        initialize(self)

    def forward(
        self,
        image_map: ImageMap,
        positions: Float[Tensor, "B HW C"],
        references: Float[Tensor, "B HW 2"],
    ) -> ImageMap:
        """Return the refined map."""
        rows = image_map.rows
        read = self.attention(rows + positions, references, image_map, image_map.padding)
        rows = self.attention_norm(rows + self.dropout(read))
        return image_map.with_rows(self.ffn_norm(rows + self.ffn(rows)))


class DecoderLayer(nn.Module):
    """Self-attention of the queries, deformable attention to the map, and FFN."""

    def __init__(
        self, *, channels: int, num_heads: int, num_points: int, ffn_dim: int, dropout: float
    ) -> None:
        super().__init__()
        self.self_attention = nn.MultiheadAttention(
            channels, num_heads, dropout=dropout, batch_first=True
        )
        self.self_attention_norm = nn.LayerNorm(channels)
        self.map_attention = DeformableAttention(
            channels=channels, num_heads=num_heads, num_points=num_points
        )
        self.map_attention_norm = nn.LayerNorm(channels)
        self.ffn = feed_forward(channels, ffn_dim, dropout)
        self.ffn_norm = nn.LayerNorm(channels)
        self.dropout = nn.Dropout(dropout)
        initialize(self)

    def forward(
        self,
        queries: Float[Tensor, "B N C"],
        positions: Float[Tensor, "B N C"] | float,
        references: Float[Tensor, "B N points_or_boxes"],
        image_map: ImageMap,
        padding: Bool[Tensor, "B HW"] | None,
        location_copies: int = 1,
    ) -> Float[Tensor, "B N C"]:
        """Return the refined queries.

        Args:
            queries: features of the queries.
            positions: learned vector that tells the queries apart; 0: none.
            references, image_map, padding, location_copies: see `DeformableAttention`.
        """
        placed = queries + positions
        attended, _ = self.self_attention(placed, placed, queries, need_weights=False)
        queries = self.self_attention_norm(queries + self.dropout(attended))
        read = self.map_attention(
            queries + positions, references, image_map, padding, location_copies
        )
        queries = self.map_attention_norm(queries + self.dropout(read))
        return self.ffn_norm(queries + self.ffn(queries))


class DeformableEncoder(nn.Module):
    """Encoder layers, with sine positions and one learned vector for the map's level.

    Args:
        layers: the encoder layers.
        channels: C.
    """

    def __init__(self, *, layers: Sequence[EncoderLayer], channels: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)
        self.level = nn.Parameter(torch.randn(channels))

    def forward(self, image_map: ImageMap) -> ImageMap:
        """Return the refined map."""
        rows = image_map.rows
        positions = sine_positions(image_map.inside, rows.shape[-1]).to(rows.dtype) + self.level
        references = _position_centers(image_map)
        for layer in self.layers:
            image_map = layer(image_map, positions, references)
        return image_map


class DeformableDecoder(nn.Module):
    """Decoder layers with learned queries; each layer refines the boxes of the layer before.

    Args:
        layers: the decoder layers.
        channels: C.
        num_queries: N.
        num_classes: K.
    """

    def __init__(
        self,
        *,
        layers: Sequence[DecoderLayer],
        channels: int,
        num_queries: int,
        num_classes: int,
    ) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)
        self.query_features = nn.Parameter(torch.randn(num_queries, channels))
        self.query_positions = nn.Parameter(torch.randn(num_queries, channels))
        self.reference_points = nn.Linear(channels, 2)
        nn.init.xavier_uniform_(self.reference_points.weight)
        nn.init.zeros_(self.reference_points.bias)
        self.class_logits = nn.ModuleList(class_layer(channels, num_classes) for _ in layers)
        # The first layer starts with small boxes, the others without a change.
        size_deltas = [FIRST_SIZE] + [0.0] * (len(layers) - 1)
        self.box_branches = nn.ModuleList(box_branch(channels, size) for size in size_deltas)

    def forward(self, image_map: ImageMap) -> Decoded:
        """Return the queries after the decoder layers."""
        batch = len(image_map.rows)
        queries, positions = (
            parameter.expand(batch, -1, -1)
            for parameter in (self.query_features, self.query_positions)
        )
        points = self.reference_points(positions).float().sigmoid()
        references: Tensor = points
        padding = image_map.padding
        all_logits, all_boxes = [], []
        for layer, class_logits, branch in zip(
            self.layers, self.class_logits, self.box_branches, strict=True
        ):
            queries = layer(queries, positions, references, image_map, padding)
            boxes_cxcywh = refine(references, branch(queries))
            all_logits.append(class_logits(queries))
            all_boxes.append(boxes_cxcywh)
            references = boxes_cxcywh.detach()
        return Decoded(queries, torch.stack(all_logits), torch.stack(all_boxes), points)


def refine(
    references: Float[Tensor, "B N points_or_boxes"], deltas: Float[Tensor, "B N 4"]
) -> Float[Tensor, "B N 4"]:
    """Return boxes (cx, cy, w, h) in 0..1: references plus deltas, both before the sigmoid.

    Points give only the centers: the deltas alone are the sizes.
    """
    deltas = deltas.to(references.dtype)
    known = references.shape[-1]
    moved = deltas[..., :known] + torch.logit(references, LOGIT_EPS)
    return torch.cat([moved, deltas[..., known:]], dim=-1).sigmoid()


def sine_positions(inside: Bool[Tensor, "B h w"], channels: int) -> Float[Tensor, "B HW C"]:
    """Return the sine encoding of each position (DETR, Carion et al., ECCV 2020).

    The first half of the channels encodes y, the second one x, each as a share of the image without
    its padding, and each as sines and cosines of falling frequencies in turn.
    """
    exponents = torch.arange(0, channels // 2, 2, device=inside.device) / (channels // 2)
    periods = TEMPERATURE**exponents  # [C/4]
    encoded = []
    for dim in (1, 2):
        count = inside.cumsum(dim=dim, dtype=torch.float32)
        last = count.narrow(dim, -1, 1)
        angles = ((count - 0.5) / (last + 1e-6) * 2 * math.pi)[..., None] / periods
        encoded.append(torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(-2))
    return torch.cat(encoded, dim=-1).flatten(1, 2)


def initialize(layer: nn.Module) -> None:
    """Initialize a transformer layer as Deformable DETR does."""
    for parameter in layer.parameters():
        if parameter.dim() > 1:
            nn.init.xavier_uniform_(parameter)
    for module in layer.modules():
        if isinstance(module, DeformableAttention):
            module.reset_parameters()


def feed_forward(channels: int, ffn_dim: int, dropout: float) -> nn.Sequential:
    """Return the two linear layers of a transformer layer."""
    return nn.Sequential(
        nn.Linear(channels, ffn_dim),
        nn.ReLU(),
        nn.Dropout(dropout),
        nn.Linear(ffn_dim, channels),
        nn.Dropout(dropout),
    )


def class_layer(channels: int, num_classes: int) -> nn.Linear:
    """Return the layer of the class scores, which start near `CLASS_PRIOR`."""
    layer = nn.Linear(channels, num_classes)
    nn.init.constant_(layer.bias, -math.log((1 - CLASS_PRIOR) / CLASS_PRIOR))
    return layer


def box_branch(channels: int, size_delta: float) -> nn.Sequential:
    """Return three layers for the deltas of a box, which do not depend on the query at first.

    Args:
        channels: C.
        size_delta: delta of width and height before training; that of the center is zero.
    """
    deltas = nn.Linear(channels, 4)
    nn.init.zeros_(deltas.weight)
    with torch.no_grad():
        deltas.bias.copy_(torch.tensor([0, 0, size_delta, size_delta]))
    hidden = [nn.Linear(channels, channels), nn.ReLU(), nn.Linear(channels, channels), nn.ReLU()]
    return nn.Sequential(*hidden, deltas)


def _position_centers(image_map: ImageMap) -> Float[Tensor, "B HW 2"]:
    """Return the center (x, y) of each position, as shares of the image without its padding."""
    share = image_map.image_share
    lines, columns = (
        (torch.arange(side, dtype=share.dtype, device=share.device) + 0.5) / side
        for side in image_map.size
    )
    y, x = torch.meshgrid(lines, columns, indexing="ij")
    return torch.stack([x, y], dim=-1).flatten(0, 1) / share[:, None]
