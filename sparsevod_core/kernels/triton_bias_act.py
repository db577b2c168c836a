"""Triton kernel that adds bias and residual and applies ReLU after a convolution, in one pass."""

import torch
import triton
import triton.language as tl
from torch import Tensor

BLOCK = 4096


@triton.jit
def _bias_act(maps, bias, residual, out, count, H, W, C: tl.constexpr, RESIDUAL: tl.constexpr,
              RELU: tl.constexpr, BLOCK: tl.constexpr):  # fmt: skip
    place = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = place < count
    value = tl.load(maps + place, mask=inside).to(tl.float32)
    value += tl.load(bias + place % C, mask=inside).to(tl.float32)
    if RESIDUAL == "same":
        value += tl.load(residual + place, mask=inside).to(tl.float32)
    if RESIDUAL == "half":
        position = place // C
        column, line, image = position % W, (position // W) % H, position // W // H
        half = (image * (H // 2) + line // 2) * (W // 2) + column // 2
        value += tl.load(residual + half * C + place % C, mask=inside).to(tl.float32)
    if RELU:
        value = tl.maximum(value, 0.0)
    tl.store(out + place, value.to(out.dtype.element_ty), mask=inside)


@torch.library.custom_op("sparsevod::bias_act", mutates_args=())
def bias_act(maps: Tensor, bias: Tensor, residual: Tensor | None, relu: bool) -> Tensor:
    """Return relu(maps + bias + residual); maps [B, C, H, W] are channels-last.

    A residual of half the height and width is upsampled by nearest neighbor. Residual and ReLU are
    optional.
    """
    layout = torch.channels_last
    maps = maps.contiguous(memory_format=layout)
    out = torch.empty_like(maps)
    _bias_act[(triton.cdiv(maps.numel(), BLOCK),)](
        maps,
        bias,
        maps if residual is None else residual.contiguous(memory_format=layout),
        out,
        maps.numel(),
        maps.shape[2],
        maps.shape[3],
        C=maps.shape[1],
        RESIDUAL="none" if residual is None else "same" if residual.shape == maps.shape else "half",
        RELU=relu,
        BLOCK=BLOCK,
        num_warps=8,
    )
    return out


@bias_act.register_fake
def _(maps: Tensor, bias: Tensor, residual: Tensor | None, relu: bool) -> Tensor:
    return torch.empty_like(maps, memory_format=torch.channels_last)
