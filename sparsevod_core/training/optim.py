"""Updates of the weights: the optimizer with its parameter groups, and a moving average."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.optim import SGD, AdamW, Optimizer

from sparsevod_core.config import TrainConfig
from sparsevod_core.model.video_detector import VideoDetector

OFFSETS = ("reference_points", "sampling_offsets")
"""Parts of the names of the layers to which `train.offset_rate` applies."""


def build_optimizer(detector: nn.Module, config: TrainConfig, *, fused: bool = False) -> Optimizer:
    """Return AdamW or SGD with one learning rate and weight decay, as in Sparse R-CNN.

    Parameters with another rate (`train.backbone_rate`, `offset_rate` and `bias_rate`) are separate
    parameter groups.

    Args:
        fused: If True, update all parameters in a few kernels (for GPUs).
    """
    decay = config.weight_decay
    groups: dict[tuple[float, float], list[nn.Parameter]] = {
        (1.0, decay): [],
        (config.backbone_rate, decay): [],
    }
    for name, parameter in detector.named_parameters():
        if parameter.requires_grad:
            groups.setdefault(_rate_and_decay(name, config), []).append(parameter)
    parameter_groups = [
        {"params": parameters, "rate": rate, "weight_decay": decay}
        for (rate, decay), parameters in groups.items()
    ]
    if config.optimizer == "sgd":
        return SGD(
            parameter_groups,
            lr=config.learning_rate,
            momentum=config.momentum,
            fused=fused or None,
        )
    return AdamW(parameter_groups, lr=config.learning_rate, fused=fused or None)


def _rate_and_decay(name: str, config: TrainConfig) -> tuple[float, float]:
    """Return the learning rate of a parameter, as a multiple, and its weight decay."""
    if is_backbone(name):
        return config.backbone_rate, config.weight_decay
    if any(part in name for part in OFFSETS):
        return config.offset_rate, config.weight_decay
    if config.bias_rate != 1 and name.endswith("bias"):
        return config.bias_rate, 0.0
    return 1.0, config.weight_decay


def is_backbone(name: str) -> bool:
    """Return True if a weight of this name belongs to the backbone, without FPN or neck."""
    return name.startswith("backbone.") and not name.startswith(("backbone.fpn.", "backbone.neck."))


def set_learning_rate(optimizer: Optimizer, rate: float) -> None:
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

    def __init__(self, detector: VideoDetector, decay: float) -> None:
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
