"""A moving average of the weights: less noisy than those of the last step, and often better."""

from __future__ import annotations

import copy

import torch
from torch import Tensor

from sparsevod_core.model.detector import SparseVOD


class WeightAverage:
    """Exponential moving average of a detector's weights, itself a detector.

    The decay begins small, so that the noise which training starts from is soon forgotten:
    min(decay, (1 + step) / (10 + step)), as in TensorFlow's. A function of the step, so that a run
    that goes on averages on exactly.

    Args:
        detector: what is trained.
        decay: share of the average that a step leaves, 0..1.
    """

    def __init__(self, detector: SparseVOD, decay: float) -> None:
        self.detector = copy.deepcopy(detector).eval().requires_grad_(False)
        self._decay = decay
        # Buffers, statistics and constants, never change.
        self._averages: list[Tensor] = list(self.detector.parameters())
        self._weights: list[Tensor] = list(detector.parameters())

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take in the weights after step `step`, counted from 1."""
        decay = min(self._decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(self._averages, self._weights, 1 - decay)
