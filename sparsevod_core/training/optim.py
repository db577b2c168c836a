"""AdamW, and the learning rate as a pure function of the step (paper, section 4.1)."""

from __future__ import annotations

import math
from typing import Any

from torch import nn
from torch.optim import AdamW

from sparsevod_core.config import TrainConfig

STEP_DECAY = 0.1


def build_optimizer(detector: nn.Module, config: TrainConfig, *, fused: bool = False) -> AdamW:
    """AdamW with one rate and one decay for all parameters, as Sparse R-CNN has it.

    Only where `train.backbone_rate` says so the backbone is a group with a rate of its own.

    Args:
        fused: all parameters in a few kernels, for GPUs.
    """
    trained = {name: p for name, p in detector.named_parameters() if p.requires_grad}
    groups: list[dict[str, Any]] = [{"params": list(trained.values()), "rate": 1.0}]
    if config.backbone_rate != 1:
        backbone = [p for name, p in trained.items() if is_backbone(name)]
        others = [p for name, p in trained.items() if not is_backbone(name)]
        groups = [
            {"params": others, "rate": 1.0},
            {"params": backbone, "rate": config.backbone_rate},
        ]
    return AdamW(
        groups, lr=config.learning_rate, weight_decay=config.weight_decay, fused=fused or None
    )


def is_backbone(name: str) -> bool:
    """Whether a weight of this name is the backbone's; the FPN is not part of it."""
    return name.startswith("backbone.") and not name.startswith("backbone.fpn.")


def set_learning_rate(optimizer: AdamW, rate: float) -> None:
    """Use `rate` from the next step on, or the multiple of it that is a group's own."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group.get("rate", 1.0)  # checkpoints of before have none


def learning_rate(
    step: int, config: TrainConfig, *, steps_per_epoch: int, total_steps: int
) -> float:
    """Rate of step `step`, counted from 0: linear warm-up times the schedule.

    A pure function, so that a resumed run needs no scheduler state.

    Args:
        step: optimiser steps done before this one.
        config: base rate, warm-up and schedule.
        steps_per_epoch: for the milestones of `step`, which are in epochs.
        total_steps: where `cosine` reaches zero.
    """
    if config.schedule == "cosine":
        decay = 0.5 * (1 + math.cos(math.pi * min(step / total_steps, 1)))
    else:
        epoch = step // steps_per_epoch
        decay = STEP_DECAY ** sum(epoch >= milestone for milestone in config.milestones)
    return config.learning_rate * _warm_up(step, config) * decay


def _warm_up(step: int, config: TrainConfig) -> float:
    if step >= config.warmup_steps:
        return 1.0
    return config.warmup_start + (1 - config.warmup_start) * step / config.warmup_steps
