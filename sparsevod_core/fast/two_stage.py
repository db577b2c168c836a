"""Optimized copies of the detectors on Faster R-CNN: SELSA, Temporal RoI Align, MAMBA, FGFA, MEGA.

Maps, RoI features and the head's first layer, which do most of the arithmetic, have the precision
of the plan. Boxes, proposal features, class logits and what is remembered of them are fp32.

All is launched kernel by kernel: the number of proposals that NMS keeps depends on the frame, so
that CUDA graphs cannot take an entire detector.
"""

from __future__ import annotations

import copy
from typing import TypeVar

import torch
from torch import nn

from sparsevod_core.fast.backbone import FoldedC4Backbone, FoldedDilatedBackbone
from sparsevod_core.fast.narrow import Converted, fuse_of, narrow_head, narrow_proposals, pack_of
from sparsevod_core.fast.onednn import PackedConv2d
from sparsevod_core.fast.plan import Plan
from sparsevod_core.fast.troi import TappedTroi
from sparsevod_core.model.dilated_backbone import DilatedBackbone
from sparsevod_core.model.fgfa.detector import FGFA
from sparsevod_core.model.fgfa.flow import SLOPE, FlowNetSimple, LeakyConv2d
from sparsevod_core.model.mega.detector import MEGA
from sparsevod_core.model.two_stage.faster_rcnn import FasterRCNN
from sparsevod_core.model.two_stage.troi import Troi
from sparsevod_core.model.video_detector import VideoDetector

Detector = TypeVar("Detector", bound=VideoDetector)


def optimized_two_stage(detector: FasterRCNN, plan: Plan) -> FasterRCNN:
    """Return an optimized copy of a detector with one dilated map."""
    fast = without_backbone(detector)
    assert isinstance(detector.backbone, DilatedBackbone)
    fast.backbone = FoldedDilatedBackbone(detector.backbone, plan.dtype, fuse=fuse_of(plan))
    narrow_proposals(fast.rpn, plan)
    narrow_head(fast.head, plan)
    if isinstance(fast, FGFA):
        _narrow_aggregation(fast, plan)
    if isinstance(fast, Troi):
        fast.temporal_roi.to(plan.dtype).to(memory_format=torch.channels_last)
        if plan.taps:
            fast = TappedTroi(fast, pack_of(plan))
    fast.use_kernels(plan.chosen_kernels())
    return fast.requires_grad_(False).eval()


def optimized_mega(detector: MEGA, plan: Plan) -> MEGA:
    """Return an optimized copy of MEGA."""
    fast = without_backbone(detector)
    fast.backbone = FoldedC4Backbone(  # type: ignore[assignment]
        detector.backbone, plan.dtype, fuse=fuse_of(plan)
    )
    narrow_proposals(fast.rpn, plan)
    narrow_head(fast.head, plan)
    return fast.requires_grad_(False).eval()


def without_backbone(detector: Detector) -> Detector:
    """Return a copy of a detector whose backbone is still to be set."""
    fast = copy.copy(detector)
    fast._modules = {
        name: copy.deepcopy(part) for name, part in detector._modules.items() if name != "backbone"
    }
    return fast


def _narrow_aggregation(detector: FGFA, plan: Plan) -> None:
    """Compute flow and embeddings, in place, in the precision of the maps."""
    fuse = fuse_of(plan)
    embed = detector.map_aggregation.embed.to(plan.dtype).to(memory_format=torch.channels_last)
    detector.map_aggregation.embed = embed if fuse is None else fuse(embed, False)  # type: ignore[assignment]
    if detector.flow is None:
        return
    flow: FlowNetSimple = detector.flow.to(plan.dtype).to(memory_format=torch.channels_last)
    if fuse is PackedConv2d:
        for stage in flow.children():
            if isinstance(stage, nn.Sequential):
                for number, conv in enumerate(stage):
                    assert isinstance(conv, LeakyConv2d)
                    relu = nn.LeakyReLU(SLOPE, inplace=True)
                    stage[number] = nn.Sequential(PackedConv2d(conv, False), relu)
    detector.flow = Converted(flow, plan.dtype, torch.float32)  # type: ignore[assignment]
