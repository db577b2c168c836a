"""Construction of TransVOD."""

from __future__ import annotations

import math

from sparsevod_core.config import ModelConfig
from sparsevod_core.model.backbone import ResNetStages
from sparsevod_core.model.build.networks import network_parts
from sparsevod_core.model.dilated_backbone import dilate
from sparsevod_core.model.transvod.assembly import assemble
from sparsevod_core.model.transvod.detector import TransVOD

NUM_DETECTIONS = 100  # as many as COCO evaluates


def build_transvod(config: ModelConfig, backbone_weights: str) -> TransVOD:
    """Build TransVOD, or only its frame detector; see `build_detector`."""
    stem, stages, widths = network_parts(config, backbone_weights)
    dilate(stages[-1], first_block=1)
    return assemble(
        backbone=ResNetStages(
            stem=stem,
            stages=stages,
            frozen_stages=config.frozen_stages,
            freeze_norms=config.norm == "batch_frozen",
            read_stages=(3,),
        ),
        map_channels=widths[-1],
        num_groups=math.gcd(32, config.channels),
        channels=config.channels,
        num_heads=config.num_heads,
        num_points=config.transvod.points,
        ffn_dim=config.ffn_dim,
        dropout=config.transvod.dropout,
        num_encoder_layers=config.transvod.encoder_layers,
        num_decoder_layers=config.transvod.decoder_layers,
        num_queries=config.num_proposals,
        num_classes=config.num_classes,
        rows_per_support=config.transvod.support_queries if config.temporal else (),
        released_points=config.transvod.released_points,
        num_detections=NUM_DETECTIONS,
    )
