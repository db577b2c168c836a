"""A trained detector with its parts replaced by faster ones."""

from __future__ import annotations

import copy
from dataclasses import replace
from functools import partial

import torch
from torch import nn

from sparsevod_core.fast.backbone import FoldedBackbone
from sparsevod_core.fast.compiled import compiled
from sparsevod_core.fast.fused import BiasActConv2d
from sparsevod_core.fast.graphed_training import GraphedTraining
from sparsevod_core.fast.int8_search import keys_for
from sparsevod_core.fast.interaction import NarrowInteraction
from sparsevod_core.fast.onednn import PackedConv2d, can_pack
from sparsevod_core.fast.plan import Plan
from sparsevod_core.fast.pyramid import LazyPyramid
from sparsevod_core.fast.recorded import RecordedDetector
from sparsevod_core.fast.taps import TappedTemporalRoI
from sparsevod_core.model.detector import SparseVOD
from sparsevod_core.model.temporal_roi import TemporalAttention


def optimised(detector: SparseVOD, plan: Plan) -> SparseVOD | RecordedDetector:
    """A copy of a trained detector for inference, as `plan` says; `detector` stays as it is.

    Norms lie in the convolutions, and maps are channels-last.
    """
    packed = plan.fused == "onednn" and can_pack(plan.dtype)
    fuse = PackedConv2d if packed else BiasActConv2d if plan.fused == "triton" else None
    fast = copy.copy(detector)
    fast._modules = {
        name: copy.deepcopy(part) for name, part in detector._modules.items() if name != "backbone"
    }
    backbone = FoldedBackbone(
        detector.backbone, plan.dtype, fuse=fuse, top_down=not plan.lazy_pyramid
    )
    fast.backbone = backbone  # type: ignore[assignment]
    kernels = plan.chosen_kernels()
    if plan.int8_search:
        kernels = replace(kernels, keys=keys_for)
    fast.use_kernels(kernels)
    if plan.lazy_pyramid:
        fast.pyramid_of = partial(LazyPyramid, backbone.layers)
    for stage in fast.stages:
        stage.interaction = NarrowInteraction(  # type: ignore[assignment]
            stage.interaction, plan.dtype, packed=packed and plan.precision == "bf16"
        )
        temporal_roi = stage.temporal_roi
        if temporal_roi is not None:
            temporal_roi.to(plan.dtype).to(memory_format=torch.channels_last)
            if plan.taps and isinstance(temporal_roi.aggregation, TemporalAttention):
                stage.temporal_roi = TappedTemporalRoI(temporal_roi)
    fast.requires_grad_(False).eval()
    if not (plan.compiled or plan.recorded):
        return fast
    quick = compiled(fast) if plan.compiled else fast
    return RecordedDetector(fast, quick, recorded=plan.recorded)


def trainable(detector: SparseVOD, plan: Plan) -> nn.Module:
    """`detector` itself with the kernels of a plan, recorded where it says so.

    See `plan_for_training`.
    """
    detector.use_kernels(plan.chosen_kernels(trains=True))
    return GraphedTraining(detector) if plan.recorded else detector
