"""AdamW, and the learning rate as a pure function of the step (paper, section 4.1)."""

from __future__ import annotations

import math
from collections.abc import Iterable

from torch import nn
from torch.optim import AdamW

from sparsevod_core.config import TrainConfig

STEP_DECAY = 0.1


def build_optimizer(parameters: Iterable[nn.Parameter], config: TrainConfig) -> AdamW:
    """AdamW with one rate and one decay for all parameters, as Sparse R-CNN has it."""
    return AdamW(parameters, lr=config.learning_rate, weight_decay=config.weight_decay)


def set_learning_rate(optimizer: AdamW, rate: float) -> None:
    """Use `rate` for all parameters from the next step on."""
    for group in optimizer.param_groups:
        group["lr"] = rate


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
