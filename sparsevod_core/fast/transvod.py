"""Optimized copy of TransVOD: the backbone in the precision of the plan, all else in fp32."""

from __future__ import annotations

import torch

from sparsevod_core.fast.backbone import FoldedStages
from sparsevod_core.fast.narrow import Converted, fuse_of, pack_linears, pack_of
from sparsevod_core.fast.plan import Plan
from sparsevod_core.fast.two_stage import without_backbone
from sparsevod_core.model.transvod.detector import TransVOD


def optimized_transvod(detector: TransVOD, plan: Plan) -> TransVOD:
    """Return an optimized copy of TransVOD."""
    fast = without_backbone(detector)
    fast.backbone = FoldedStages(  # type: ignore[assignment]
        detector.backbone, plan.dtype, fuse=fuse_of(plan)
    )
    projection = fast.projection.to(memory_format=torch.channels_last)
    fast.projection = Converted(projection, torch.float32)
    pack_linears(fast, pack_of(plan))
    return fast.requires_grad_(False).eval()
