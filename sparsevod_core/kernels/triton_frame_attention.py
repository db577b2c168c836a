"""`frame_attention.attend_frames` as a Triton kernel that reads every feature once."""

import math

import torch
import triton
import triton.language as tl
from torch import Tensor

BINS = 4  # RoI bins per program


@triton.jit
def _attend(bins, similar, embedded_bins, embedded_similar, out, Q, S, scale, BLOCKS: tl.constexpr,
            PART: tl.constexpr, BINS: tl.constexpr, BLOCKS_2: tl.constexpr,
            PART_2: tl.constexpr):  # fmt: skip
    C: tl.constexpr = BLOCKS * PART
    video = tl.program_id(1).to(tl.int64)
    rows = tl.program_id(0) * BINS + tl.arange(0, BINS)
    block = tl.arange(0, BLOCKS_2)
    part = tl.arange(0, PART_2)
    inside = (
        (rows < Q)[:, None, None] & (block < BLOCKS)[None, :, None] & (part < PART)[None, None, :]
    )
    place = rows.to(tl.int64)[:, None, None] * C + block[None, :, None] * PART + part[None, None, :]
    own = video * Q * C + place
    query = tl.load(embedded_bins + own, mask=inside, other=0.0).to(tl.float32)
    total = tl.load(bins + own, mask=inside, other=0.0).to(tl.float32)
    largest = tl.sum(query * query, 2) * scale  # [BINS, BLOCKS]: the target's own score
    weights = tl.full([BINS, BLOCKS_2], 1.0, tl.float32)
    for s in range(S):
        other = (video * S + s) * Q * C + place
        key = tl.load(embedded_similar + other, mask=inside, other=0.0).to(tl.float32)
        value = tl.load(similar + other, mask=inside, other=0.0).to(tl.float32)
        score = tl.sum(query * key, 2) * scale
        new_largest = tl.maximum(largest, score)
        shrink = tl.exp(largest - new_largest)
        weight = tl.exp(score - new_largest)
        weights = weights * shrink + weight
        total = total * shrink[:, :, None] + weight[:, :, None] * value
        largest = new_largest
    total = total / weights[:, :, None]
    tl.store(out + own, total.to(out.dtype.element_ty), mask=inside)


@torch.library.custom_op("sparsevod::attend_frames", mutates_args=())
def triton_attend_frames(
    bins: Tensor, similar: Tensor, embedded_bins: Tensor, embedded_similar: Tensor, blocks: int
) -> Tensor:
    """See `frame_attention.attend_frames`; there is no backward."""
    videos, count, channels = bins.shape
    out = torch.empty_like(bins, memory_format=torch.contiguous_format)
    part = channels // blocks
    _attend[(triton.cdiv(count, BINS), videos)](
        bins.contiguous(),
        similar.contiguous(),
        embedded_bins.contiguous(),
        embedded_similar.contiguous(),
        out,
        count,
        similar.shape[1],
        1 / math.sqrt(part),
        BLOCKS=blocks,
        PART=part,
        BINS=BINS,
        BLOCKS_2=triton.next_power_of_2(blocks),
        PART_2=triton.next_power_of_2(part),
    )
    return out


@triton_attend_frames.register_fake
def _(
    bins: Tensor, similar: Tensor, embedded_bins: Tensor, embedded_similar: Tensor, blocks: int
) -> Tensor:
    return torch.empty_like(bins, memory_format=torch.contiguous_format)
