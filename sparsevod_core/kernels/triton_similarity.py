"""Similarity search as a Triton kernel with a running top k, which never stores the scores."""

import os
from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from jaxtyping import Float
from torch import Tensor

from sparsevod_core.kernels.similarity import NORM_EPS, TIE, Found, Keys

IS_INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
"""Triton's interpreter, which runs kernels on a CPU, cannot multiply bf16 matrices."""


@triton.jit
def _cosines(query, scale, keys, bias, offsets, channels, HW, C: tl.constexpr,
             PRECISION: tl.constexpr, WIDEN: tl.constexpr):  # fmt: skip
    """Return the cosines of a tile of queries and positions; minus infinity if not valid."""
    is_position = offsets < HW
    key = tl.load(
        keys + offsets.to(tl.int64)[None, :] * C + channels[:, None],
        mask=is_position[None, :] & (channels < C)[:, None],
        other=0.0,
    )
    if WIDEN:
        key = key.to(tl.float32)
    allowed = tl.load(bias + offsets, mask=is_position, other=float("-inf"))
    return tl.dot(query, key, input_precision=PRECISION) * scale[:, None] + allowed[None, :]


@triton.jit
def _insert(best, where, value, position):
    """Replace the worst of the best by a candidate if that is better; also return the loser."""
    worst = tl.min(best, 1)
    last = tl.max(tl.where(best == worst[:, None], where, -1), 1)
    is_worst = (best == worst[:, None]) & (where == last[:, None])
    better = is_worst & (value > worst)[:, None]
    best = tl.where(better, value[:, None], best)
    where = tl.where(better, position[:, None], where)
    return best, where, tl.minimum(value, worst)


@triton.jit
def _search(queries, keys, bias, positions, cosines, Q, HW, S, C: tl.constexpr, K: tl.constexpr,
            K_2: tl.constexpr, WIDTH: tl.constexpr, QUERIES: tl.constexpr,
            POSITIONS: tl.constexpr, PRECISION: tl.constexpr, EPS: tl.constexpr,
            TIE: tl.constexpr, WIDEN: tl.constexpr):  # fmt: skip
    frame = tl.program_id(1).to(tl.int64)  # among the support frames of all videos
    video = frame // S
    rows = tl.program_id(0) * QUERIES + tl.arange(0, QUERIES)
    channels = tl.arange(0, WIDTH)
    columns = tl.arange(0, K_2)
    is_query = rows < Q
    place = (video * Q + rows.to(tl.int64))[:, None] * C + channels[None, :]
    query = tl.load(queries + place, mask=is_query[:, None] & (channels < C)[None, :], other=0.0)
    wide = query.to(tl.float32)
    if WIDEN:
        query = wide
    square = tl.sum(wide * wide, 1)
    scale = 1.0 / tl.maximum(tl.sqrt(square), EPS)
    keys += frame * HW * C
    bias += video * HW

    # The k best so far, unordered, and the best of the others. Columns beyond k hold infinity and
    # are never replaced. Empty places have distinct positions, so that one is replaced at a time.
    empty = tl.where((columns < K)[None, :], tl.full([QUERIES, K_2], float("-inf"), tl.float32),
                     float("inf"))  # fmt: skip
    nowhere = tl.zeros([QUERIES, K_2], tl.int32) + (2**30 + columns)[None, :]
    best, where = empty, nowhere
    other = tl.full([QUERIES], float("-inf"), tl.float32)
    for start in range(0, HW, POSITIONS):
        offsets = start + tl.arange(0, POSITIONS)
        scores = _cosines(query, scale, keys, bias, offsets, channels, HW, C, PRECISION, WIDEN)
        for _ in tl.static_range(K):
            value = tl.max(scores, 1)
            first = tl.min(tl.where(scores == value[:, None], offsets[None, :], 2**30), 1)
            best, where, worse = _insert(best, where, value, first)
            other = tl.maximum(other, worse)
            scores = tl.where(offsets[None, :] == first[:, None], float("-inf"), scores)
        other = tl.maximum(other, tl.max(scores, 1))

    # Ties need a second pass that ranks positions as above or within the tie (see `similarity`).
    # Zero queries, which are bins outside the image, tie with everything, but their result is not
    # used.
    last = tl.min(best, 1)
    is_tied = (other >= last - TIE) & (square > 0.0) & (other > float("-inf"))
    if tl.max(is_tied.to(tl.int32), 0) > 0:
        best, where = empty, nowhere
        for start in range(0, HW, POSITIONS):
            offsets = start + tl.arange(0, POSITIONS)
            scores = _cosines(query, scale, keys, bias, offsets, channels, HW, C, PRECISION, WIDEN)
            levels = (scores > (last + TIE)[:, None]).to(tl.float32)
            levels += (scores >= (last - TIE)[:, None]).to(tl.float32)
            levels = tl.where(scores > float("-inf"), levels, -1.0)
            for _ in tl.static_range(K):
                value = tl.max(levels, 1)
                first = tl.min(tl.where(levels == value[:, None], offsets[None, :], 2**30), 1)
                chosen = offsets[None, :] == first[:, None]
                best, where, worse = _insert(best, where, value, first)
                levels = tl.where(chosen, -1.0, levels)

    out = (frame * Q + rows.to(tl.int64)) * K
    for rank in tl.static_range(K):
        position = tl.max(tl.where((columns == rank)[None, :], where, -1), 1)
        is_found = (position < HW) & is_query
        key = tl.load(
            keys + position.to(tl.int64)[:, None] * C + channels[None, :],
            mask=is_found[:, None] & (channels < C)[None, :],
            other=0.0,
        )
        cosine = tl.sum(wide * key.to(tl.float32), 1) * scale
        is_allowed = is_found & (tl.load(bias + position, mask=is_found, other=-1.0) == 0.0)
        tl.store(positions + out + rank, tl.where(is_allowed, position, 0), mask=is_query)
        tl.store(cosines + out + rank, tl.where(is_allowed, cosine, float("-inf")), mask=is_query)


@torch.library.custom_op("sparsevod::most_similar", mutates_args=())
def _most_similar(
    queries: Tensor, directions: Tensor, bias: Tensor, top_k: int, precision: str
) -> tuple[Tensor, Tensor]:
    videos, supports, length, channels = directions.shape
    shape = (videos, supports, queries.shape[1], top_k)
    positions = torch.empty(shape, dtype=torch.int32, device=queries.device)
    cosines = torch.empty(shape, dtype=torch.float32, device=queries.device)
    is_narrow = directions.dtype.itemsize == 2
    tile = (128, 64) if is_narrow else (64, 32)
    _search[(triton.cdiv(shape[2], tile[0]), videos * supports)](
        queries.to(directions.dtype).contiguous(),
        directions.contiguous(),
        bias.contiguous(),
        positions,
        cosines,
        shape[2],
        length,
        supports,
        C=channels,
        K=top_k,
        K_2=triton.next_power_of_2(top_k),
        WIDTH=max(16, triton.next_power_of_2(channels)),
        QUERIES=tile[0],
        POSITIONS=tile[1],
        PRECISION=precision,
        EPS=NORM_EPS,
        TIE=TIE,
        WIDEN=IS_INTERPRETED,
        num_warps=8,
        num_stages=2,
    )
    return positions, cosines


@_most_similar.register_fake
def _(
    queries: Tensor, directions: Tensor, bias: Tensor, top_k: int, precision: str
) -> tuple[Tensor, Tensor]:
    shape = (*directions.shape[:2], queries.shape[1], top_k)
    positions = torch.empty(shape, dtype=torch.int32, device=queries.device)
    return positions, torch.empty(shape, dtype=torch.float32, device=queries.device)


@dataclass(frozen=True, slots=True)
class TritonKeys(Keys):
    """`Keys` that are searched by one kernel."""

    precision: str = "ieee"
    """Precision of products of fp32 maps, `ieee` or `tf32`."""

    def top(self, queries: Float[Tensor, "V Q C"], top_k: int) -> Found:
        top_k = min(top_k, self.directions.shape[2])
        return _most_similar(queries, self.directions, self.bias, top_k, self.precision)
