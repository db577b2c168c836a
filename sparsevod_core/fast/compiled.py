"""`torch.compile` of one stage, which serves as all.

The six stages run the same code on weights of their own. The compiler takes weights as inputs, so
that it works once; its results are kept on disk, and the next process takes them from there.
"""

from __future__ import annotations

import copy

import torch

from sparsevod_core.model.detector import SparseVOD


def compiled(detector: SparseVOD) -> SparseVOD:
    """The same detector, weights shared, whose stage is compiled when it first runs."""
    quick = copy.copy(detector)
    quick.step = torch.compile(detector.step, dynamic=False)
    return quick
