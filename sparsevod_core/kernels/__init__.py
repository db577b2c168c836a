"""The expensive operations, each in plain PyTorch and in faster implementations.

A detector holds one `Kernels` and calls nothing else. `sparsevod_core.fast.plan` chooses it; the
device of a tensor never does.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from sparsevod_core.kernels.frame_attention import attend_frames
from sparsevod_core.kernels.similarity import Keys, SearchedKeys
from sparsevod_core.kernels.weighted_rows import bagged, gathered


@dataclass(frozen=True, slots=True)
class Kernels:
    """One implementation of every operation.

    Attributes:
        weighted_rows: weighted sums of rows, see `weighted_rows.gathered`.
        keys: index of the rows and valid positions of support maps for the similarity search.
        attend_frames: attention over frames, see `frame_attention.attend_frames`.
        pooled_dtype: dtype of the rows from which RoIAlign pools; None: the dtype of the maps.
    """

    weighted_rows: Callable[[Tensor, Tensor, Tensor], Tensor]
    keys: Callable[[Tensor, Tensor], SearchedKeys] = Keys.of
    attend_frames: Callable[[Tensor, Tensor, Tensor, Tensor, int], Tensor] = attend_frames
    pooled_dtype: torch.dtype | None = None


BAGS = Kernels(bagged, pooled_dtype=torch.float32)
"""Embedding lookups, for CPUs."""

GATHER = Kernels(gathered, partial(Keys.of, max_scores=2**23))
"""Plain tensor operations only, for compilers and exporters."""


def triton_kernels(*, trains: bool = False, precision: str = "ieee") -> Kernels:
    """Return the Triton kernels for GPUs; on a CPU they run in Triton's interpreter.

    Args:
        trains: if True, attention over frames is plain PyTorch, as its kernel has no backward.
        precision: precision of fp32 matrix products, `ieee` or `tf32`.
    """
    from sparsevod_core.kernels.triton_frame_attention import triton_attend_frames
    from sparsevod_core.kernels.triton_similarity import TritonKeys
    from sparsevod_core.kernels.triton_weighted_rows import triton_weighted_rows

    return Kernels(
        triton_weighted_rows,
        partial(TritonKeys.of, precision=precision),
        attend_frames if trains else triton_attend_frames,
        torch.float32 if trains else None,
    )
