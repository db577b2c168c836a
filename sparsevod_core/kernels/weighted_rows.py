"""Weighted sums of rows: what RoIAlign and TFE ask of a map whose positions are rows."""

from __future__ import annotations

import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor


def gathered(
    rows: Float[Tensor, "R C"], index: Int[Tensor, "n m"], weights: Float[Tensor, "n m"]
) -> Float[Tensor, "n C"]:
    """Gather, multiply, sum: a compiler fuses them, and every exporter knows them.

    The weights stay in fp32 and so does the sum; the result has the type of `rows`.
    """
    picked = rows.index_select(0, index.flatten()).unflatten(0, index.shape)
    return (picked * weights[..., None]).sum(1).to(rows.dtype)


def bagged(
    rows: Float[Tensor, "R C"], index: Int[Tensor, "n m"], weights: Float[Tensor, "n m"]
) -> Float[Tensor, "n C"]:
    """An embedding lookup, which copies no row: the fastest way on a CPU, backward too.

    It takes weights of the type of `rows` only. Rows of less than 32 bits are therefore widened;
    whoever pools from them many times keeps them in fp32.
    """
    pooled = F.embedding_bag(index, rows.float(), per_sample_weights=weights.float(), mode="sum")
    return pooled.to(rows.dtype)
