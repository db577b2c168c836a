"""`weighted_rows.gathered` as a Triton kernel that never stores a gathered row."""

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

BINS = 4  # output rows per program


@triton.jit
def _forward(rows, index, weights, out, n, C: tl.constexpr, M: tl.constexpr, BINS: tl.constexpr,
             WIDTH: tl.constexpr):  # fmt: skip
    bins = tl.program_id(0) * BINS + tl.arange(0, BINS)
    channels = tl.arange(0, WIDTH)
    is_bin = bins < n
    inside = is_bin[:, None] & (channels < C)[None, :]
    total = tl.zeros([BINS, WIDTH], tl.float32)
    for m in tl.static_range(M):
        row = tl.load(index + bins.to(tl.int64) * M + m, mask=is_bin, other=0).to(tl.int64)
        weight = tl.load(weights + bins.to(tl.int64) * M + m, mask=is_bin, other=0.0)
        values = tl.load(rows + row[:, None] * C + channels[None, :], mask=inside, other=0.0)
        total += weight.to(tl.float32)[:, None] * values.to(tl.float32)
    place = out + bins.to(tl.int64)[:, None] * C + channels[None, :]
    tl.store(place, total.to(out.dtype.element_ty), mask=inside)


@triton.jit
def _backward(grad, rows, index, weights, grad_rows, grad_weights, n, C: tl.constexpr,
              M: tl.constexpr, BINS: tl.constexpr, WIDTH: tl.constexpr):  # fmt: skip
    bins = tl.program_id(0) * BINS + tl.arange(0, BINS)
    channels = tl.arange(0, WIDTH)
    is_bin = bins < n
    inside = is_bin[:, None] & (channels < C)[None, :]
    place = bins.to(tl.int64)[:, None] * C + channels[None, :]
    incoming = tl.load(grad + place, mask=inside, other=0.0).to(tl.float32)
    for m in tl.static_range(M):
        at = bins.to(tl.int64) * M + m
        row = tl.load(index + at, mask=is_bin, other=0).to(tl.int64)
        weight = tl.load(weights + at, mask=is_bin, other=0.0).to(tl.float32)
        place = row[:, None] * C + channels[None, :]
        values = tl.load(rows + place, mask=inside, other=0.0).to(tl.float32)
        tl.store(grad_weights + at, tl.sum(incoming * values, 1), mask=is_bin)
        counts = inside & (weight != 0.0)[:, None]
        tl.atomic_add(grad_rows + place, weight[:, None] * incoming, mask=counts, sem="relaxed")


def _sizes(index: Tensor, channels: int) -> tuple[tuple[int], dict[str, Any]]:
    count, m = index.shape
    width = triton.next_power_of_2(channels)
    return (triton.cdiv(count, BINS),), {"C": channels, "M": m, "BINS": BINS, "WIDTH": width}


@torch.library.custom_op("sparsevod::weighted_rows", mutates_args=())
def triton_weighted_rows(rows: Tensor, index: Tensor, weights: Tensor) -> Tensor:
    """See `weighted_rows.gathered`; differentiable in rows and weights."""
    out = rows.new_empty(index.shape[0], rows.shape[1])
    grid, sizes = _sizes(index, rows.shape[1])
    if len(index):
        _forward[grid](
            rows.contiguous(), index.contiguous(), weights.contiguous(), out, len(index), **sizes
        )
    return out


@torch.library.custom_op("sparsevod::weighted_rows_backward", mutates_args=())
def _gradients(grad: Tensor, rows: Tensor, index: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    grad_rows = torch.zeros(rows.shape, dtype=torch.float32, device=rows.device)
    grad_weights = torch.empty(weights.shape, dtype=torch.float32, device=rows.device)
    grid, sizes = _sizes(index, rows.shape[1])
    if len(index):
        _backward[grid](
            grad.contiguous(),
            rows.contiguous(),
            index.contiguous(),
            weights.contiguous(),
            grad_rows,
            grad_weights,
            len(index),
            **sizes,
        )
    return grad_rows.to(rows.dtype), grad_weights.to(weights.dtype)


@triton_weighted_rows.register_fake
def _(rows: Tensor, index: Tensor, weights: Tensor) -> Tensor:
    return rows.new_empty(index.shape[0], rows.shape[1])


@_gradients.register_fake
def _(grad: Tensor, rows: Tensor, index: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    return torch.empty_like(rows), torch.empty_like(weights)


def _save_inputs(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs)


def _backpropagate(ctx: Any, grad: Tensor) -> tuple[Tensor, None, Tensor]:
    grad_rows, grad_weights = _gradients(grad, *ctx.saved_tensors)
    return grad_rows, None, grad_weights


triton_weighted_rows.register_autograd(_backpropagate, setup_context=_save_inputs)
