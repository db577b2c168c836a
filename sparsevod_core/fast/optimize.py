"""Construction of optimized detectors from trained ones, as a `Plan` says."""

from __future__ import annotations

import copy
from dataclasses import replace
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor, nn

from sparsevod_core.fast.backbone import FoldedBackbone
from sparsevod_core.fast.frozen import FoldedFrozenStages
from sparsevod_core.fast.fused import BiasActConv2d
from sparsevod_core.fast.graphed_training import GraphedTraining
from sparsevod_core.fast.onednn import PackedConv2d, PackedLinear, can_pack
from sparsevod_core.fast.plan import Plan
from sparsevod_core.fast.pyramid import LazyPyramid
from sparsevod_core.fast.recorded import RecordedDetector
from sparsevod_core.fast.taps import TappedTemporalRoI
from sparsevod_core.fast.transvod import optimized_transvod
from sparsevod_core.fast.two_stage import optimized_mega, optimized_two_stage
from sparsevod_core.kernels.int8_similarity import int8_keys
from sparsevod_core.model.backbone import ResNetStages
from sparsevod_core.model.detector import SparseVOD
from sparsevod_core.model.interaction import InstanceInteraction
from sparsevod_core.model.mega.detector import MEGA
from sparsevod_core.model.temporal_roi import TemporalAttention
from sparsevod_core.model.transvod.detector import TransVOD
from sparsevod_core.model.two_stage.faster_rcnn import FasterRCNN
from sparsevod_core.model.video_detector import VideoDetector


def optimized(detector: VideoDetector, plan: Plan) -> VideoDetector | RecordedDetector:
    """Return an optimized copy of a trained detector for inference; `detector` is not changed."""
    if isinstance(detector, SparseVOD):
        return _optimized_sparsevod(detector, plan)
    if isinstance(detector, FasterRCNN):
        return optimized_two_stage(detector, plan)
    if isinstance(detector, MEGA):
        return optimized_mega(detector, plan)
    if isinstance(detector, TransVOD):
        return optimized_transvod(detector, plan)
    raise TypeError(f"no optimized copy of {type(detector).__name__}")


def _optimized_sparsevod(detector: SparseVOD, plan: Plan) -> SparseVOD | RecordedDetector:
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
    fast.use_kernels(replace(kernels, keys=int8_keys) if plan.int8_search else kernels)
    if plan.lazy_pyramid:
        fast.make_pyramid = partial(LazyPyramid, backbone.layers)
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
    quick = copy.copy(fast)
    if plan.compiled:
        # All stages run the same code, and the compiler takes weights as inputs, so that it runs
        # once. Its results are cached on disk for later processes.
        quick.run_stage = torch.compile(fast.run_stage, dynamic=False)
    return RecordedDetector(fast, quick, recorded=plan.recorded)


def trainable(detector: VideoDetector, plan: Plan) -> nn.Module:
    """Prepare `detector` as a plan says and return it, with CUDA graphs if planned.

    See `plan_for_training`. Its weights may still be replaced.
    """
    backbone = detector.backbone
    if isinstance(backbone, ResNetStages):
        backbone.run_frozen = None
        if plan.fused == "onednn" and backbone.num_frozen:
            fuse = PackedConv2d if can_pack(plan.dtype) else None
            backbone.run_frozen = FoldedFrozenStages(backbone, plan.dtype, fuse)
    if not isinstance(detector, SparseVOD):
        return detector
    detector.use_kernels(plan.chosen_kernels(trains=True))
    return GraphedTraining(detector) if plan.recorded else detector


class NarrowInteraction(nn.Module):
    """Instance interaction, the widest layers of a stage, in the precision of the maps.

    Other layers with one vector per proposal stay in fp32. They cost little, and rounding proposal
    features from stage to stage would cost several times the error of everything else.

    Args:
        packed: if True, pack the weights for oneDNN.
    """

    def __init__(
        self, interaction: InstanceInteraction, dtype: torch.dtype, *, packed: bool
    ) -> None:
        super().__init__()
        self._inner = copy.deepcopy(interaction).to(dtype)
        self._dtype = dtype
        if packed:
            for name in ("dynamic_layers", "output"):
                setattr(self._inner, name, PackedLinear(getattr(self._inner, name)))

    def forward(
        self, features: Float[Tensor, "n C"], roi_features: Float[Tensor, "n C P P"]
    ) -> Float[Tensor, "n C"]:
        """Return the object feature of each proposal in the dtype of `features`."""
        return self._inner(features.to(self._dtype), roi_features).to(features.dtype)
