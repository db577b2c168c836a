"""The operations that take the time, each with a plain PyTorch form and faster ones.

A detector holds one `Kernels` and asks for nothing else: which it is, is chosen in
`sparsevod_core.fast.plan`, never by where a tensor lies.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
from torch import Tensor

from sparsevod_core.kernels.frame_attention import attend_frames
from sparsevod_core.kernels.similarity import Keys, SearchedKeys
from sparsevod_core.kernels.weighted_rows import bagged, gathered

Name = Literal["bags", "gather", "triton"]


@dataclass(frozen=True, slots=True)
class Kernels:
    """One form of every operation.

    Attributes:
        weighted_rows: see `weighted_rows.gathered`.
        keys: rows and valid positions of support maps to what can be searched.
        attend_frames: see `frame_attention.attend_frames`.
        pooled_dtype: type in which maps are kept for RoIAlign; None: their own.
    """

    weighted_rows: Callable[[Tensor, Tensor, Tensor], Tensor]
    keys: Callable[[Tensor, Tensor], SearchedKeys] = Keys.of
    attend_frames: Callable[[Tensor, Tensor, Tensor, Tensor, int], Tensor] = attend_frames
    pooled_dtype: torch.dtype | None = None


BAGS = Kernels(bagged, pooled_dtype=torch.float32)
"""For CPUs: embedding lookups."""

GATHER = Kernels(gathered, partial(Keys.of, at_once=2**23))
"""For compilers and exporters: nothing but plain tensor operations."""


def triton_kernels(*, trains: bool = False, precision: str = "ieee") -> Kernels:
    """Triton's kernels for GPUs; on a CPU they run in Triton's interpreter.

    Args:
        trains: attention over the frames has no backward kernel: a compiler makes both then.
        precision: of products of fp32 features, `ieee` or `tf32`.
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
