"""Small two-stage detectors with random weights."""

from __future__ import annotations

import torch
from torch import nn

from sparsevod_core.model.backbone import group_norm, tiny_parts
from sparsevod_core.model.dilated_backbone import DilatedBackbone
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

CHANNELS, WIDTH, CLASSES, PROPOSALS = 8, 16, 3, 12


def build(system: str, **changes) -> FasterRCNN:
    """Build a detector whose predictions differ from proposal to proposal.

    Args:
        system: `faster_rcnn`, `selsa`, `troi` or `mamba`.
        changes: other arguments of the detector.
    """
    torch.manual_seed(0)
    stem, stages, widths = tiny_parts(group_norm, widths=(8, 8, 16, 16))
    backbone = DilatedBackbone(
        stem=stem,
        stages=stages,
        stage_channels=widths,
        channels=CHANNELS,
        frozen_stages=0,
        freeze_norms=False,
    )
    rpn = RegionProposals(
        channels=CHANNELS,
        width=CHANNELS,
        base_anchors=centered_anchors([16, 32], [0.5, 1, 2]),
        stride=16,
        num_candidates=60,
        nms_iou=0.7,
        positive_iou=0.7,
        negative_iou=0.3,
        min_positive_iou=0.3,
        num_samples=16,
        positive_share=0.5,
    )
    is_temporal = system != "faster_rcnn"
    head = BoxHead(
        roi_channels=CHANNELS * 49,
        channels=WIDTH,
        num_fcs=2,
        aggregations=[
            AttentionAggregation(channels=WIDTH, num_heads=4) for _ in range(2 * is_temporal)
        ],
        num_classes=CLASSES,
    )
    for layer in (rpn.logits, rpn.deltas, head.class_logits, head.box_deltas):
        nn.init.normal_(layer.weight, std=0.3)
    parts = {
        "backbone": backbone,
        "rpn": rpn,
        "roi_align": PyramidRoIAlign(strides=[16]),
        "head": head,
        "sampler": ProposalSampler(
            num_classes=CLASSES,
            num_samples=10,
            positive_share=0.5,
            positive_iou=0.5,
            stds=(0.2,) * 4,
        ),
        "selector": DetectionSelector(
            stds=(0.2,) * 4, min_score=1e-4, nms_iou=0.5, max_detections=20
        ),
        "num_proposals": PROPOSALS,
        "num_train_proposals": 2 * PROPOSALS,
    }
    if system == "faster_rcnn":
        return FasterRCNN(**parts | changes).eval()
    parts["num_support_proposals"] = PROPOSALS
    if system == "selsa":
        return Selsa(**parts | changes).eval()
    if system == "mamba":
        bank = {"num_support_proposals": 4, "bank_rows": 20, "read_rows": 11}
        return Mamba(**parts | bank | changes).eval()
    aggregation = FoldedTemporalAttention(channels=CHANNELS, blocks=2)
    temporal_roi = TemporalRoIFeatures(top_k=2, aggregation=aggregation)
    return Troi(temporal_roi=temporal_roi, **parts | changes).eval()
