"""Construction of the two-stage detectors: Faster R-CNN, SELSA, Temporal RoI Align, MAMBA, FGFA."""

from __future__ import annotations

from typing import Any

from torch import nn

from sparsevod_core.config import ModelConfig
from sparsevod_core.model.build.networks import network_parts
from sparsevod_core.model.dilated_backbone import DilatedBackbone
from sparsevod_core.model.fgfa.detector import FGFA
from sparsevod_core.model.fgfa.flow import FlowNetSimple
from sparsevod_core.model.fgfa.map_aggregation import MapAggregation
from sparsevod_core.model.folded_attention import FoldedTemporalAttention
from sparsevod_core.model.proposal_aggregation import AttentionAggregation
from sparsevod_core.model.roi_align import PyramidRoIAlign
from sparsevod_core.model.temporal_roi import TemporalRoIFeatures
from sparsevod_core.model.two_stage.anchors import centered_anchors
from sparsevod_core.model.two_stage.box_head import BoxHead
from sparsevod_core.model.two_stage.detections import DetectionSelector
from sparsevod_core.model.two_stage.faster_rcnn import FasterRCNN
from sparsevod_core.model.two_stage.mamba import Mamba
from sparsevod_core.model.two_stage.proposal_sampling import ProposalSampler
from sparsevod_core.model.two_stage.region_proposals import RegionProposals
from sparsevod_core.model.two_stage.selsa import Selsa
from sparsevod_core.model.two_stage.troi import Troi

STRIDE = 16  # of the only map
RATIOS = (0.5, 1.0, 2.0)  # height by width of the anchors
BINS = 7  # of a RoI, per side
DELTA_STDS = (0.2, 0.2, 0.2, 0.2)  # the head's; torchvision calls their inverses weights


def build_two_stage(config: ModelConfig, backbone_weights: str) -> FasterRCNN:
    """Build the system that `config` names, with MMTracking's rules; see `build_detector`."""
    if not config.temporal:
        return FasterRCNN(**_parts(config, backbone_weights, num_aggregations=0))
    settings = config.faster_rcnn
    if config.system == "fgfa":
        flow = FlowNetSimple(width=config.fgfa.flow_width) if config.fgfa.flow != "none" else None
        return FGFA(
            flow=flow,
            map_aggregation=MapAggregation(channels=config.channels),
            **_parts(config, backbone_weights, num_aggregations=0),
        )
    parts = _parts(config, backbone_weights, num_aggregations=settings.head_layers)
    parts["num_support_proposals"] = min(settings.support_proposals, config.num_proposals)
    if config.system == "mamba":
        return Mamba(bank_rows=config.mamba.bank_rows, read_rows=config.mamba.read_rows, **parts)
    if config.system == "troi":
        attention = FoldedTemporalAttention(channels=config.channels, blocks=config.tfe_blocks)
        nn.init.kaiming_normal_(attention.embed.weight, mode="fan_out", nonlinearity="relu")
        nn.init.zeros_(attention.embed.bias)  # type: ignore[arg-type]
        temporal_roi = TemporalRoIFeatures(top_k=config.tfe_top_k, aggregation=attention)
        return Troi(temporal_roi=temporal_roi, **parts)
    return Selsa(**parts)


def _parts(config: ModelConfig, backbone_weights: str, num_aggregations: int) -> dict[str, Any]:
    """Return the arguments of `FasterRCNN`."""
    settings = config.faster_rcnn
    stem, stages, widths = network_parts(config, backbone_weights)
    return {
        "backbone": DilatedBackbone(
            stem=stem,
            stages=stages,
            stage_channels=widths,
            channels=config.channels,
            frozen_stages=config.frozen_stages,
            freeze_norms=config.norm == "batch_frozen",
        ),
        "rpn": RegionProposals(
            channels=config.channels,
            width=config.channels,
            base_anchors=centered_anchors(settings.anchor_sides, RATIOS),
            stride=STRIDE,
            num_candidates=settings.candidates,
            nms_iou=0.7,
            positive_iou=0.7,
            negative_iou=0.3,
            min_positive_iou=0.3,
            num_samples=settings.rpn_samples,
            positive_share=0.5,
        ),
        "roi_align": PyramidRoIAlign(strides=[STRIDE], output_size=BINS),
        "head": BoxHead(
            roi_channels=config.channels * BINS**2,
            channels=settings.head_dim,
            num_fcs=settings.head_layers,
            aggregations=[
                AttentionAggregation(channels=settings.head_dim, num_heads=settings.attention_heads)
                for _ in range(num_aggregations)
            ],
            num_classes=config.num_classes,
        ),
        "sampler": ProposalSampler(
            num_classes=config.num_classes,
            num_samples=settings.head_samples,
            positive_share=0.25,
            positive_iou=0.5,
            stds=DELTA_STDS,
        ),
        "selector": DetectionSelector(
            stds=DELTA_STDS,
            min_score=settings.min_score,
            nms_iou=settings.nms_iou,
            max_detections=settings.max_detections,
        ),
        "num_proposals": config.num_proposals,
        "num_train_proposals": settings.train_proposals,
    }
