"""Updates of the weights: AdamW with its parameter groups, and a moving average."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.optim import AdamW

from sparsevod_core.config import TrainConfig
from sparsevod_core.model.detector import SparseVOD


def build_optimizer(detector: nn.Module, config: TrainConfig, *, fused: bool = False) -> AdamW:
    """Return AdamW with one learning rate and weight decay for all parameters, as in Sparse R-CNN.

    If `train.backbone_rate` is not 1, the backbone is a separate parameter group.

    Args:
        fused: If True, update all parameters in a few kernels (for GPUs).
    """
    groups: dict[float, list[nn.Parameter]] = {1.0: [], config.backbone_rate: []}
    for name, parameter in detector.named_parameters():
        if parameter.requires_grad:
            groups[config.backbone_rate if is_backbone(name) else 1.0].append(parameter)
    return AdamW(
        [{"params": parameters, "rate": rate} for rate, parameters in groups.items()],
        lr=config.learning_rate,
        weight_decay=config.weight_decay,
        fused=fused or None,
    )


def is_backbone(name: str) -> bool:
    """Return True if a weight of this name belongs to the backbone, which excludes the FPN."""
    return name.startswith("backbone.") and not name.startswith("backbone.fpn.")


def set_learning_rate(optimizer: AdamW, rate: float) -> None:
    """Set the rate of the next step; a parameter group may use a multiple of it."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group.get("rate", 1.0)  # earlier checkpoints have no "rate"


class WeightAverage:
    """Exponential moving average of a detector's weights, itself a detector.

    It is less noisy than the weights of the last step, and often better. The decay of step n is
    min(decay, (1 + n) / (10 + n)), as in TensorFlow: it starts small, so that the initial weights
    are soon forgotten. It depends only on the step, so a resumed run continues it exactly.

    Args:
        detector: The detector in training.
        decay: Share of the average that a step keeps, 0..1.
    """

    def __init__(self, detector: SparseVOD, decay: float) -> None:
        self.detector = copy.deepcopy(detector).eval().requires_grad_(False)
        self._decay = decay
        # Buffers (statistics and constants) never change.
        self._averages: list[Tensor] = list(self.detector.parameters())
        self._weights: list[Tensor] = list(detector.parameters())

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Add the weights after step `step`, counted from 1."""
        decay = min(self._decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(self._averages, self._weights, 1 - decay)
