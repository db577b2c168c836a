"""Layers with packed weights and fused residual and ReLU, by oneDNN on CPUs.

oneDNN needs weights in an order that depends on the shape of the input, and reorders them in every
call unless they have been packed before. It can also add a residual and apply ReLU while the result
is in the cache. PyTorch's compiler uses the operators below for this. They are not public, so
`can_pack` tries them first.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

_MAX_PACKINGS = 4  # per layer: for support frames, full batches and the last batch of a video


def _packed_once(packings: dict[Any, Tensor], shape: Any, pack: Callable[[], Tensor]) -> Tensor:
    """Return the weights packed for a shape; the oldest are dropped, as videos have many sizes."""
    if shape not in packings:
        if len(packings) == _MAX_PACKINGS:
            del packings[next(iter(packings))]
        packings[shape] = pack()
    return packings[shape]


class PackedConv2d(nn.Module):
    """`fused.FusedConv` with packed weights.

    Args:
        conv: the convolution.
        relu: if True, a ReLU follows.
        limit: upper limit of this ReLU, as of ReLU6; not after a sum.
    """

    def __init__(self, conv: nn.Conv2d, relu: bool, limit: float | None = None) -> None:
        super().__init__()
        self._conv = conv
        self._relu = relu
        self._activation: tuple[str, list[float]] = ("relu" if relu else "none", [])
        if limit is not None:
            self._activation = ("hardtanh", [0.0, limit])
        self._packed: dict[torch.Size, Tensor] = {}

    def forward(
        self, maps: Float[Tensor, "B _ _ _"], add_to: Float[Tensor, "B _ _ _"] | None = None
    ) -> Float[Tensor, "B _ _ _"]:
        """Return the result, which overwrites `add_to`."""
        conv = self._conv
        geometry: tuple[Any, ...] = (conv.padding, conv.stride, conv.dilation, conv.groups)

        def pack() -> Tensor:
            reorder: Any = torch._C._nn.mkldnn_reorder_conv2d_weight
            return reorder(conv.weight.to_mkldnn(), *geometry, list(maps.shape))

        weight = _packed_once(self._packed, maps.shape, pack)
        if add_to is None:
            return torch.ops.mkldnn._convolution_pointwise(
                maps, weight, conv.bias, *geometry, *self._activation, ""
            )
        then = "relu" if self._relu else None
        return torch.ops.mkldnn._convolution_pointwise_.binary(
            add_to, maps, weight, conv.bias, *geometry, "add", 1.0, then, [], ""
        )


class PackedLinear(nn.Module):
    """Linear layer with packed weights."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self._linear = linear
        self._packed: dict[int, Tensor] = {}

    def forward(self, features: Float[Tensor, "*n in"]) -> Float[Tensor, "*n out"]:
        linear = self._linear
        rows = features.reshape(-1, features.shape[-1])
        count = len(rows)
        if not count:
            return linear(features)
        reorder = torch.ops.mkldnn._reorder_linear_weight
        weight = _packed_once(self._packed, count, lambda: reorder(linear.weight, count))
        rows = torch.ops.mkldnn._linear_pointwise(rows, weight, linear.bias, "none", [], "")
        return rows.view(*features.shape[:-1], -1)


def multiplied(
    rows: Float[Tensor, "n C"], columns: Float[Tensor, "m C"], bias: Float[Tensor, " m"] | None
) -> Float[Tensor, "n m"]:
    """Return the products of all pairs, plus a bias.

    For fp32 on some processors, oneDNN is twice as fast as the library of `torch.mm`.
    """
    if not can_pack(rows.dtype):
        return F.linear(rows, columns, bias)
    return torch.ops.mkldnn._linear_pointwise(rows, columns, bias, "none", [], "")


@cache
def can_pack(dtype: torch.dtype) -> bool:
    """Return True if this PyTorch and processor run the operators of this module correctly."""
    if not torch.backends.mkldnn.is_available():
        return False
    conv = nn.Conv2d(4, 4, 3, padding=1).to(dtype).to(memory_format=torch.channels_last)
    maps = torch.linspace(-1, 1, 4 * 64).view(1, 4, 8, 8).to(dtype)
    maps = maps.to(memory_format=torch.channels_last)
    linear = nn.Linear(8, 16).to(dtype)
    rows = torch.linspace(-1, 1, 32).view(4, 8).to(dtype)
    with torch.inference_mode():
        try:
            fused = PackedConv2d(conv, True)(maps, add_to=maps.clone())
            limited = PackedConv2d(conv, True, limit=0.1)(maps)
            pairs = [
                (fused, (conv(maps) + maps).relu()),
                (limited, conv(maps).clamp(0, 0.1)),
                (PackedLinear(linear)(rows), linear(rows)),
            ]
        except (AttributeError, RuntimeError, TypeError):
            return False
        return all(torch.allclose(a.float(), b.float(), atol=0.05) for a, b in pairs)
