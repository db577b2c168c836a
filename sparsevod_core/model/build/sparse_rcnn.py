"""Construction of SparseVOD."""

from __future__ import annotations

import math

from torch import nn

from sparsevod_core.config import ModelConfig
from sparsevod_core.model.backbone import LEVELS, STRIDES, Backbone
from sparsevod_core.model.build.networks import network_parts
from sparsevod_core.model.detector import SparseVOD
from sparsevod_core.model.proposal_aggregation import AttentionAggregation, MeanAggregation
from sparsevod_core.model.proposals import LearnedProposals
from sparsevod_core.model.roi_align import PyramidRoIAlign
from sparsevod_core.model.stage import BoxDecoder, RefinementStage
from sparsevod_core.model.temporal_roi import TemporalAttention, TemporalMean, TemporalRoIFeatures

CLASS_PRIOR = 0.01  # class score of a proposal before training: a class bias of -ln 99
SIZE_DELTA_RANGES = {
    "mmdetection": (math.log(16 / 1000), -math.log(16 / 1000)),
    "original": (-math.inf, math.log(100_000 / 16)),
}


def build_sparsevod(config: ModelConfig, backbone_weights: str) -> SparseVOD:
    """Build SparseVOD, or Sparse R-CNN if TFE and SPFA are off; see `build_detector`."""
    stem, network_stages, widths = network_parts(config, backbone_weights)
    backbone = Backbone(
        stem=stem,
        stages=network_stages,
        stage_channels=widths,
        channels=config.channels,
        frozen_stages=config.frozen_stages,
        freeze_norms=config.norm == "batch_frozen",
        normalize_maps=config.map_norm == "layer",
    )
    stages = [_build_stage(config) for _ in range(config.num_stages)]
    for stage in stages:
        _initialize(stage)
    return SparseVOD(
        backbone=backbone,
        proposals=LearnedProposals(
            num_proposals=config.num_proposals,
            channels=config.channels,
            init=config.proposal_init,
        ),
        roi_align=PyramidRoIAlign(strides=STRIDES),
        stages=stages,
        support_level=LEVELS.index(config.support_level),
    )


def _initialize(stage: RefinementStage) -> None:
    """Initialize a stage; SPFA's output starts at zero, so that training starts at Sparse R-CNN."""
    for parameter in stage.parameters():
        if parameter.dim() > 1:
            nn.init.xavier_uniform_(parameter)
    nn.init.constant_(stage.class_logits.bias, -math.log((1 - CLASS_PRIOR) / CLASS_PRIOR))
    if stage.aggregation is not None:
        nn.init.zeros_(stage.aggregation.output.weight)
        nn.init.zeros_(stage.aggregation.output.bias)


def _build_stage(config: ModelConfig) -> RefinementStage:
    return RefinementStage(
        temporal_roi=_build_temporal_roi(config),
        aggregation=_build_aggregation(config),
        box_decoder=BoxDecoder(*SIZE_DELTA_RANGES[config.box_decode]),
        channels=config.channels,
        num_heads=config.num_heads,
        ffn_dim=config.ffn_dim,
        dynamic_dim=config.dynamic_dim,
        num_classes=config.num_classes,
    )


def _build_temporal_roi(config: ModelConfig) -> TemporalRoIFeatures | None:
    if config.tfe == "off" or not config.temporal:
        return None
    aggregation = (
        TemporalAttention(channels=config.channels, blocks=config.tfe_blocks)
        if config.tfe == "attention"
        else TemporalMean()
    )
    return TemporalRoIFeatures(top_k=config.tfe_top_k, aggregation=aggregation)


def _build_aggregation(config: ModelConfig) -> AttentionAggregation | MeanAggregation | None:
    if config.spfa == "off" or not config.temporal:
        return None
    if config.spfa == "average":
        return MeanAggregation(channels=config.channels)
    return AttentionAggregation(channels=config.channels, num_heads=config.spfa_heads)
