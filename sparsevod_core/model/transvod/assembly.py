"""Assembly of a TransVOD from numbers."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from sparsevod_core.model.backbone import ResNetStages
from sparsevod_core.model.transvod.detector import TransVOD, projection
from sparsevod_core.model.transvod.temporal_queries import TemporalQueries, TemporalQueryLayer
from sparsevod_core.model.transvod.transformer import (
    DecoderLayer,
    DeformableDecoder,
    DeformableEncoder,
    EncoderLayer,
)


def assemble(
    *,
    backbone: ResNetStages,
    map_channels: int,
    num_groups: int,
    channels: int,
    num_heads: int,
    num_points: int,
    ffn_dim: int,
    dropout: float,
    num_encoder_layers: int,
    num_decoder_layers: int,
    num_queries: int,
    num_classes: int,
    rows_per_support: Sequence[int],
    released_points: bool,
    num_detections: int,
) -> TransVOD:
    """Return a newly initialized TransVOD.

    Args:
        backbone: images to maps; the last one has `map_channels` channels.
        num_groups: groups of the GroupNorm after the backbone.
        channels: C.
        num_heads, num_points, ffn_dim, dropout: of all transformer layers.
        num_queries: N.
        num_classes: K.
        rows_per_support: see `TemporalQueries`; one temporal query layer for each number. Without
            any, only the frame detector is built.
        released_points: see `TemporalQueries`.
        num_detections: M.
    """
    encoder_layer = partial(
        EncoderLayer,
        channels=channels,
        num_heads=num_heads,
        num_points=num_points,
        ffn_dim=ffn_dim,
        dropout=dropout,
    )
    decoder_layer = partial(
        DecoderLayer,
        channels=channels,
        num_heads=num_heads,
        num_points=num_points,
        ffn_dim=ffn_dim,
        dropout=dropout,
    )
    query_layer = partial(
        TemporalQueryLayer,
        channels=channels,
        num_heads=num_heads,
        ffn_dim=ffn_dim,
        dropout=dropout,
    )
    temporal = None
    if rows_per_support:
        temporal = TemporalQueries(
            query_layers=[query_layer() for _ in rows_per_support],
            rows_per_support=rows_per_support,
            decoder_layer=decoder_layer(),
            channels=channels,
            num_classes=num_classes,
            released_points=released_points,
        )
    return TransVOD(
        backbone=backbone,
        projection=projection(map_channels, channels, num_groups),
        encoder=DeformableEncoder(
            layers=[encoder_layer() for _ in range(num_encoder_layers)], channels=channels
        ),
        decoder=DeformableDecoder(
            layers=[decoder_layer() for _ in range(num_decoder_layers)],
            channels=channels,
            num_queries=num_queries,
            num_classes=num_classes,
        ),
        temporal=temporal,
        num_detections=num_detections,
    )
