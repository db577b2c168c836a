"""Construction of a detector from its `ModelConfig`, which no other file of `model/` reads."""

from __future__ import annotations

import math
from pathlib import Path

from torch import Tensor, nn
from torchvision.models import ResNet, get_model

from sparsevod_core.config import ModelConfig
from sparsevod_core.errors import CheckpointError
from sparsevod_core.model.backbone import (
    LEVELS,
    STRIDES,
    Backbone,
    group_norm,
    layer_norm_parts,
    resnet_parts,
    tiny_parts,
)
from sparsevod_core.model.detector import SparseVOD
from sparsevod_core.model.proposal_aggregation import AttentionAggregation, MeanAggregation
from sparsevod_core.model.proposals import LearnedProposals
from sparsevod_core.model.roi_align import PyramidRoIAlign
from sparsevod_core.model.stage import BoxDecoder, RefinementStage
from sparsevod_core.model.temporal_roi import TemporalAttention, TemporalMean, TemporalRoIFeatures
from sparsevod_core.weights_file import read_weights, require_finite

CLASS_PRIOR = 0.01  # class score of a proposal before training: a class bias of -ln 99
TORCHVISION_NAMES = {
    "r50": "resnet50",
    "r101": "resnet101",
    "x101_32x8d": "resnext101_32x8d",
    "x101_64x4d": "resnext101_64x4d",
    "swin_t": "swin_t",
    "swin_s": "swin_s",
    "swin_b": "swin_b",
    "convnext_t": "convnext_tiny",
    "convnext_s": "convnext_small",
    "convnext_b": "convnext_base",
}
CLASSIFIERS = ("fc.", "norm.", "head.", "classifier.")  # of a ResNet, Swin (two), ConvNeXt
SIZE_DELTA_RANGES = {
    "mmdetection": (math.log(16 / 1000), -math.log(16 / 1000)),
    "original": (-math.inf, math.log(100_000 / 16)),
}


def build_detector(config: ModelConfig, *, backbone_weights: str = "none") -> SparseVOD:
    """Build the detector that `config` describes, newly initialized.

    Args:
        config: sizes and variants.
        backbone_weights: `none`, `imagenet` (downloaded by torchvision), or the path of a
            state_dict of that network in torchvision.

    Raises:
        CheckpointError: the backbone file is missing, unsafe or of another network.
    """
    backbone = _build_backbone(config, backbone_weights)
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
    if config.tfe == "off":
        return None
    aggregation = (
        TemporalAttention(channels=config.channels, blocks=config.tfe_blocks)
        if config.tfe == "attention"
        else TemporalMean()
    )
    return TemporalRoIFeatures(top_k=config.tfe_top_k, aggregation=aggregation)


def _build_aggregation(config: ModelConfig) -> AttentionAggregation | MeanAggregation | None:
    if config.spfa == "off":
        return None
    if config.spfa == "average":
        return MeanAggregation(channels=config.channels)
    return AttentionAggregation(channels=config.channels, num_heads=config.spfa_heads)


def _build_backbone(config: ModelConfig, weights: str) -> Backbone:
    stem, stages, widths = _build_parts(config, weights)
    return Backbone(
        stem=stem,
        stages=stages,
        stage_channels=widths,
        channels=config.channels,
        frozen_stages=config.frozen_stages,
        freeze_norms=config.norm == "batch_frozen",
        normalize_maps=config.map_norm == "layer",
    )


def _build_parts(config: ModelConfig, weights: str) -> tuple[nn.Module, list[nn.Module], list[int]]:
    """Return stem, stages and stage channels of the backbone."""
    norm = group_norm if config.norm == "group" else nn.BatchNorm2d
    if config.backbone == "tiny":
        return tiny_parts(norm)
    name = TORCHVISION_NAMES[config.backbone]
    network = get_model(
        name,
        weights="DEFAULT" if weights == "imagenet" else None,
        **({} if config.norm == "layer" else {"norm_layer": norm}),
    )
    if weights not in ("imagenet", "none"):
        _load_backbone(network, Path(weights), name)
    return resnet_parts(network) if isinstance(network, ResNet) else layer_norm_parts(network)


def _load_backbone(network: nn.Module, path: Path, name: str) -> None:
    state = read_weights(path)
    is_state = isinstance(state, dict) and all(
        isinstance(key, str) and isinstance(value, Tensor) for key, value in state.items()
    )
    if not is_state:
        raise CheckpointError(f"{path}: expected a dict of tensors, got {type(state).__name__}")
    require_finite(path, state)
    ours = {key: value for key, value in network.state_dict().items() if _is_backbone(key)}
    state = {key: value for key, value in state.items() if _is_backbone(key)}
    missing, unexpected = sorted(ours.keys() - state.keys()), sorted(state.keys() - ours.keys())
    other = [key for key in ours.keys() & state.keys() if ours[key].shape != state[key].shape]
    if missing or unexpected or other:
        raise CheckpointError(
            f"{path}: not the weights of torchvision's {name}: {len(missing)} missing (first "
            f"{missing[:1]}), {len(unexpected)} unexpected, {len(other)} of another shape"
        )
    network.load_state_dict(state, strict=False)


def _is_backbone(key: str) -> bool:
    return not key.startswith(CLASSIFIERS)
