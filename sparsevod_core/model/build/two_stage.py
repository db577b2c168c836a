"""Construction of the detectors on Faster R-CNN with one dilated map: SELSA, TROI, MAMBA, FGFA."""

from __future__ import annotations

from typing import Any

from torch import nn

from sparsevod_core.config import ModelConfig
from sparsevod_core.model.build.networks import network_parts
from sparsevod_core.model.dilated_backbone import DilatedBackbone
from sparsevod_core.model.fgfa.detector import FGFA
from sparsevod_core.model.fgfa.flow import FlowNetSimple
from sparsevod_core.model.fgfa.map_aggregation import MapAggregation
from sparsevod_core.model.proposal_aggregation import AttentionAggregation
from sparsevod_core.model.roi_align import PyramidRoIAlign
from sparsevod_core.model.temporal_roi import TemporalAttention, TemporalRoIFeatures
from sparsevod_core.model.two_stage.anchors import centered_anchors
from sparsevod_core.model.two_stage.box_head import BoxHead
from sparsevod_core.model.two_stage.detections import DetectionSelector
from sparsevod_core.model.two_stage.faster_rcnn import FasterRCNN
from sparsevod_core.model.two_stage.mamba import Mamba
from sparsevod_core.model.two_stage.proposal_sampling import ProposalSampler
from sparsevod_core.model.two_stage.region_proposals import RegionProposals
from sparsevod_core.model.two_stage.selsa import Selsa
from sparsevod_core.model.two_stage.troi import Troi

STRIDE = 16  # pixels per position of the map
ROI_SIZE = 7
RATIOS = (0.5, 1.0, 2.0)  # of anchors: height / width
BOX_STDS = (0.2, 0.2, 0.2, 0.2)  # scales of the head's box deltas


def build_two_stage(config: ModelConfig, backbone_weights: str) -> FasterRCNN:
    """Build the detector, or only its Faster R-CNN; see `build_detector`.

    The numbers that are no settings are those of MMTracking's configurations.
    """
    has_aggregations = config.temporal and config.system != "fgfa"
    parts: dict[str, Any] = {
        "backbone": _build_backbone(config, backbone_weights),
        "rpn": _build_rpn(config),
        "roi_align": PyramidRoIAlign(strides=[STRIDE], output_size=ROI_SIZE, sampling_ratio=2),
        "head": _build_head(config, has_aggregations=has_aggregations),
        "sampler": ProposalSampler(
            num_classes=config.num_classes,
            num_samples=config.faster_rcnn.head_samples,
            positive_share=0.25,
            positive_iou=0.5,
            stds=BOX_STDS,
        ),
        "selector": DetectionSelector(
            stds=BOX_STDS,
            min_score=config.faster_rcnn.min_score,
            nms_iou=config.faster_rcnn.nms_iou,
            max_detections=config.faster_rcnn.max_detections,
        ),
        "num_proposals": config.num_proposals,
        "num_train_proposals": config.faster_rcnn.train_proposals,
    }
    if not config.temporal:
        return FasterRCNN(**parts)
    if config.system == "fgfa":
        return FGFA(
            flow=FlowNetSimple(width=config.fgfa.flow_width)
            if config.fgfa.flow == "flownet"
            else None,
            map_aggregation=MapAggregation(channels=config.channels),
            **parts,
        )
    parts["num_support_proposals"] = config.faster_rcnn.support_proposals
    if config.system == "troi":
        attention = TemporalAttention(channels=config.channels, blocks=config.tfe_blocks)
        nn.init.kaiming_normal_(attention.embed.weight, mode="fan_out", nonlinearity="relu")
        nn.init.zeros_(attention.embed.bias)
        tfe = TemporalRoIFeatures(top_k=config.tfe_top_k, aggregation=attention)
        return Troi(temporal_roi=tfe, **parts)
    if config.system == "mamba":
        return Mamba(
            bank_rows=config.mamba.bank_rows, read_rows=config.mamba.read_rows, seed=0, **parts
        )
    return Selsa(**parts)


def _build_backbone(config: ModelConfig, weights: str) -> DilatedBackbone:
    stem, stages, widths = network_parts(config, weights)
    return DilatedBackbone(
        stem=stem,
        stages=stages,
        stage_channels=widths,
        channels=config.channels,
        frozen_stages=config.frozen_stages,
        freeze_norms=config.norm == "batch_frozen",
    )


def _build_rpn(config: ModelConfig) -> RegionProposals:
    return RegionProposals(
        channels=config.channels,
        width=config.channels,
        base_anchors=centered_anchors(config.faster_rcnn.anchor_sides, RATIOS),
        stride=STRIDE,
        num_candidates=config.faster_rcnn.candidates,
        nms_iou=0.7,
        positive_iou=0.7,
        negative_iou=0.3,
        min_positive_iou=0.3,
        num_samples=config.faster_rcnn.rpn_samples,
        positive_share=0.5,
    )


def _build_head(config: ModelConfig, *, has_aggregations: bool) -> BoxHead:
    settings = config.faster_rcnn
    return BoxHead(
        roi_channels=config.channels * ROI_SIZE**2,
        channels=settings.head_dim,
        num_fcs=settings.head_layers,
        aggregations=[
            AttentionAggregation(channels=settings.head_dim, num_heads=settings.attention_heads)
            for _ in range(settings.head_layers if has_aggregations else 0)
        ],
        num_classes=config.num_classes,
    )
