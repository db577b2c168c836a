"""Detectors with a box head of MMTracking, without backbone and RPN."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from sparsevod_core.model.folded_attention import FoldedTemporalAttention
from sparsevod_core.model.proposal_aggregation import AttentionAggregation
from sparsevod_core.model.roi_align import PyramidRoIAlign
from sparsevod_core.model.temporal_roi import TemporalRoIFeatures
from sparsevod_core.model.two_stage.box_head import BoxHead
from sparsevod_core.model.two_stage.detections import DetectionSelector
from sparsevod_core.model.two_stage.faster_rcnn import EncodedFrames
from sparsevod_core.model.two_stage.mamba import Mamba
from sparsevod_core.model.two_stage.proposal_sampling import ProposalSampler
from sparsevod_core.model.two_stage.region_proposals import Proposals
from sparsevod_core.model.two_stage.selsa import Selsa
from sparsevod_core.model.two_stage.troi import Troi


class NoProposals(nn.Module):
    """RPN of detectors that get their proposals."""

    stride = 16


def detector_of(weights: dict[str, Tensor], config: dict[str, Any]) -> Selsa:
    """Return SELSA, Temporal RoI Align or MAMBA with the weights of the reference."""
    size = config["roi_align"]["output_size"]
    num_fcs = config.get("num_fcs", 2)
    aggregations = [
        AttentionAggregation(channels=config["fc"], num_heads=config["blocks"])
        for _ in range(num_fcs)
    ]
    parts = {
        "backbone": nn.Identity(),
        "rpn": NoProposals(),
        "roi_align": PyramidRoIAlign(
            strides=[round(1 / config["roi_align"]["spatial_scale"])],
            output_size=size,
            sampling_ratio=config["roi_align"]["sampling_ratio"],
        ),
        "head": BoxHead(
            roi_channels=config["C"] * size**2,
            channels=config["fc"],
            num_fcs=num_fcs,
            aggregations=aggregations,
            num_classes=config["num_classes"],
        ),
        "sampler": ProposalSampler(
            num_classes=config["num_classes"],
            num_samples=config.get("train_sample", 0),
            positive_share=0.25,
            positive_iou=0.5,
            stds=config["box_stds"],
        ),
        "selector": DetectionSelector(
            stds=config["box_stds"],
            min_score=config["score_thr"],
            nms_iou=config["nms_iou"],
            max_detections=config["max_per_img"],
        ),
        "num_proposals": config["N"],
        "num_train_proposals": config["N"],
    }
    if "key_length" in config:
        detector: Selsa = Mamba(
            bank_rows=config["max_length"],
            read_rows=config["key_length"],
            num_support_proposals=config["topk"],
            **parts,
        )
    elif "top_k" in config:
        attention = FoldedTemporalAttention(channels=config["C"], blocks=config["temporal_blocks"])
        temporal_roi = TemporalRoIFeatures(top_k=config["top_k"], aggregation=attention)
        detector = Troi(temporal_roi=temporal_roi, num_support_proposals=config["N"], **parts)
    else:
        detector = Selsa(num_support_proposals=config["N"], **parts)
    detector.load_state_dict(our_names(weights))
    return detector.eval()


def our_names(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the weights, or their gradients, of the box head under our names."""
    parts = {
        ".shared_fcs.": ".fcs.",
        ".aggregator.": ".aggregations.",
        ".fc_embed.": ".query.",
        ".ref_fc_embed.": ".key.",
        ".ref_fc.": ".value.",
        ".fc.": ".output.",
        ".fc_cls.": ".class_logits.",
        ".fc_reg.": ".box_deltas.",
        "bbox_roi_extractor.embed_network.conv.": "temporal_roi.aggregation.embed.",
        "bbox_head.": "head.",
    }
    renamed = {}
    for name, value in weights.items():
        for theirs, ours in parts.items():
            name = name.replace(theirs, ours)
        renamed[name] = value
    return renamed


def encoded(maps: Tensor, boxes_xyxy: Tensor, config: dict[str, Any]) -> EncodedFrames:
    """Return frames [B, C, h, w] with proposals [B, N, 4], all valid."""
    batch, count, _ = boxes_xyxy.shape
    proposals = Proposals(boxes_xyxy, torch.zeros(batch, count), torch.full((batch,), count))
    return EncodedFrames(maps, proposals, torch.tensor([config["image_hw"]] * batch))
