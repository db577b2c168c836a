"""Construction of MEGA."""

from __future__ import annotations

from sparsevod_core.config import ModelConfig
from sparsevod_core.model.build.networks import network_parts
from sparsevod_core.model.build.two_stage import BINS, RATIOS
from sparsevod_core.model.mega.backbone import C4Backbone
from sparsevod_core.model.mega.boxes import CELL_PX, PIXEL_CORNERS, pixel_anchors
from sparsevod_core.model.mega.detector import MEGA
from sparsevod_core.model.mega.stages import RelationHead
from sparsevod_core.model.two_stage.detections import DetectionSelector
from sparsevod_core.model.two_stage.proposal_sampling import ProposalSampler
from sparsevod_core.model.two_stage.region_proposals import RegionProposals

DELTA_STDS = (0.1, 0.1, 0.2, 0.2)


def build_mega(config: ModelConfig, backbone_weights: str) -> MEGA:
    """Build MEGA with the rules of its repository; see `build_detector`."""
    settings = config.faster_rcnn
    stem, stages, widths = network_parts(config, backbone_weights)
    backbone = C4Backbone(
        stem=stem,
        stages=stages,
        stage_channels=widths,
        reduction=config.mega.reduction,
        frozen_stages=config.frozen_stages,
        freeze_norms=config.norm == "batch_frozen",
    )
    return MEGA(
        backbone=backbone,
        rpn=RegionProposals(
            channels=backbone.channels,
            width=backbone.channels,
            base_anchors=pixel_anchors(settings.anchor_sides, RATIOS),
            stride=CELL_PX,
            num_candidates=settings.candidates,
            nms_iou=0.7,
            positive_iou=0.7,
            negative_iou=0.3,
            min_positive_iou=0,
            num_samples=settings.rpn_samples,
            positive_share=0.5,
            limits=PIXEL_CORNERS,
        ),
        head=RelationHead(
            roi_channels=backbone.roi_channels * BINS**2,
            channels=settings.head_dim,
            num_heads=settings.attention_heads,
            num_stages=settings.head_layers,
            num_global=config.mega.global_layers if config.temporal else 0,
            num_advanced=config.mega.advanced_proposals,
            num_classes=config.num_classes,
        ),
        sampler=ProposalSampler(
            num_classes=config.num_classes,
            num_samples=settings.head_samples,
            positive_share=0.25,
            positive_iou=0.5,
            stds=DELTA_STDS,
        ),
        selector=DetectionSelector(
            stds=DELTA_STDS,
            min_score=settings.min_score,
            nms_iou=settings.nms_iou,
            max_detections=settings.max_detections,
            limits=PIXEL_CORNERS,
        ),
        num_proposals=config.num_proposals,
        num_support_proposals=min(settings.support_proposals, config.num_proposals),
        memory_frames=config.mega.memory_frames,
    )
