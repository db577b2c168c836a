"""Layers replaced in place: packed ones, and ones in the precision of the maps."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from sparsevod_core.fast.fused import BiasActConv2d, Fuse, conv_relu
from sparsevod_core.fast.onednn import PackedConv2d, PackedLinear, can_pack
from sparsevod_core.fast.plan import Plan
from sparsevod_core.model.mega.geometry import GeometryWeight
from sparsevod_core.model.two_stage.region_proposals import RegionProposals

Pack = Callable[[nn.Linear], nn.Module]

KEPT_AS_THEY_ARE = (nn.MultiheadAttention, GeometryWeight)  # they read the weights of their layers


def fuse_of(plan: Plan) -> Fuse | None:
    """Return what fuses convolutions, None if nothing does."""
    if plan.fused == "onednn" and can_pack(plan.dtype):
        return PackedConv2d
    return BiasActConv2d if plan.fused == "triton" else None


def pack_of(plan: Plan) -> Pack:
    """Return what packs linear layers, or leaves them as they are."""
    is_packed = plan.fused == "onednn" and can_pack(torch.float32) and can_pack(plan.dtype)
    return PackedLinear if is_packed else lambda linear: linear


def narrow_proposals(rpn: RegionProposals, plan: Plan) -> None:
    """Compute the hidden layer of an RPN in the precision of the maps."""
    rpn.conv = conv_relu(rpn.conv, plan.dtype, fuse_of(plan))  # type: ignore[assignment]
    for name in ("logits", "deltas"):
        conv = getattr(rpn, name).to(memory_format=torch.channels_last)
        setattr(rpn, name, Converted(conv, torch.float32))


def narrow_head(head: nn.Module, plan: Plan) -> None:
    """Pack the layers of a box head; compute `fcs.0` in the precision of the maps."""
    fcs = head.get_submodule("fcs")
    assert isinstance(fcs, nn.ModuleList)
    fcs[0].to(plan.dtype)
    pack_linears(head, pack_of(plan))
    fcs[0] = Converted(fcs[0], plan.dtype, torch.float32)


def pack_linears(module: nn.Module, pack: Pack) -> None:
    """Pack all linear layers in a module."""
    for name, part in list(module.named_children()):
        if isinstance(part, nn.Linear):
            setattr(module, name, pack(part))
        elif not isinstance(part, KEPT_AS_THEY_ARE):
            pack_linears(part, pack)


class Converted(nn.Module):
    """Layer with its own precision.

    Args:
        layer: the layer.
        dtype: dtype of its inputs.
        output_dtype: dtype of its output; None: as it comes.
    """

    def __init__(
        self, layer: nn.Module, dtype: torch.dtype, output_dtype: torch.dtype | None = None
    ) -> None:
        super().__init__()
        self._layer = layer
        self._dtype = dtype
        self._output_dtype = output_dtype

    def forward(self, *inputs: Tensor) -> Tensor:
        output = self._layer(*(one.to(self._dtype) for one in inputs))
        return output if self._output_dtype is None else output.to(self._output_dtype)
