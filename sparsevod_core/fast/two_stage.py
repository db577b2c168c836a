"""Optimized copies of the detectors on Faster R-CNN: SELSA, Temporal RoI Align, MAMBA, FGFA.

Maps, RoI features and the head's first layer, which do most of the arithmetic, have the precision
of the plan. Boxes, proposal features, class logits and what is remembered of them are fp32.
"""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn

from sparsevod_core.fast.backbone import FoldedDilatedBackbone
from sparsevod_core.fast.fused import BiasActConv2d, Fuse, conv_relu
from sparsevod_core.fast.onednn import PackedConv2d, PackedLinear, can_pack
from sparsevod_core.fast.plan import Plan
from sparsevod_core.fast.troi import TappedTroi
from sparsevod_core.model.two_stage.box_head import BoxHead
from sparsevod_core.model.two_stage.faster_rcnn import FasterRCNN
from sparsevod_core.model.two_stage.region_proposals import RegionProposals
from sparsevod_core.model.two_stage.troi import Troi

Pack = Callable[[nn.Linear], nn.Module]


def optimized_two_stage(detector: FasterRCNN, plan: Plan) -> FasterRCNN:
    """Return an optimized copy of a detector, which launches everything one by one.

    Its number of proposals after NMS depends on the frame, so that neither the compiler nor CUDA
    graphs can take the entire detector.
    """
    fast = copy.copy(detector)
    fast._modules = {
        name: copy.deepcopy(part) for name, part in detector._modules.items() if name != "backbone"
    }
    fuse, pack = fuse_of(plan), pack_of(plan)
    fast.backbone = FoldedDilatedBackbone(detector.backbone, plan.dtype, fuse=fuse)
    narrow_proposals(fast.rpn, plan.dtype, fuse)
    pack_head(fast.head, plan.dtype, pack)
    if isinstance(fast, Troi):
        fast.temporal_roi.to(plan.dtype).to(memory_format=torch.channels_last)
        if plan.taps:
            fast = TappedTroi(fast, pack)
    fast.use_kernels(plan.chosen_kernels())
    return fast.requires_grad_(False).eval()


def fuse_of(plan: Plan) -> Fuse | None:
    """Return what fuses convolutions, None if nothing does."""
    if plan.fused == "onednn" and can_pack(plan.dtype):
        return PackedConv2d
    return BiasActConv2d if plan.fused == "triton" else None


def pack_of(plan: Plan) -> Pack:
    """Return what packs linear layers, or leaves them as they are."""
    is_packed = plan.fused == "onednn" and can_pack(torch.float32) and can_pack(plan.dtype)
    return PackedLinear if is_packed else lambda linear: linear


def narrow_proposals(rpn: RegionProposals, dtype: torch.dtype, fuse: Fuse | None) -> None:
    """Compute the hidden layer of an RPN, in place, in the precision of the maps."""
    rpn.conv = conv_relu(rpn.conv, dtype, fuse)  # type: ignore[assignment]
    for name in ("logits", "deltas"):
        conv = getattr(rpn, name).to(memory_format=torch.channels_last)
        setattr(rpn, name, Converted(conv, torch.float32))


def pack_head(head: BoxHead, dtype: torch.dtype, pack: Pack) -> None:
    """Pack the layers of a box head, in place, the first one in the precision of the maps."""
    first, *others = head.fcs
    narrow = Converted(pack(first.to(dtype)), dtype, torch.float32)
    head.fcs = nn.ModuleList([narrow, *map(pack, others)])
    for part in (head, *head.aggregations):
        for name, layer in list(part.named_children()):
            if isinstance(layer, nn.Linear):
                setattr(part, name, pack(layer))


class Converted(nn.Module):
    """Layer with its own precision.

    Args:
        layer: the layer.
        dtype: dtype of its input.
        output_dtype: dtype of its output; None: as it comes.
    """

    def __init__(
        self, layer: nn.Module, dtype: torch.dtype, output_dtype: torch.dtype | None = None
    ) -> None:
        super().__init__()
        self._layer = layer
        self._dtype = dtype
        self._output_dtype = output_dtype

    def forward(self, features: Tensor) -> Tensor:
        output = self._layer(features.to(self._dtype))
        return output if self._output_dtype is None else output.to(self._output_dtype)
