"""The gradients of one step, of one batch or of several whose gradients add up."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from sparsevod_core import distributed
from sparsevod_core.config import Config
from sparsevod_core.data.loader import TrainingBatch
from sparsevod_core.fast.plan import Precision, computing_in
from sparsevod_core.losses.criterion import Losses, SetCriterion


def parallel(detector: nn.Module, config: Config) -> nn.Module:
    """The detector in DDP, which gives all ranks rank 0's weights; in one process as it is."""
    if not distributed.is_joined():
        return detector
    return DistributedDataParallel(
        detector,
        gradient_as_bucket_view=True,
        find_unused_parameters=config.data.supports == 0,  # TFE's, then
    )


def agree(batches: Sequence[TrainingBatch], stop: bool) -> tuple[float, bool]:
    """Boxes of the step, averaged over the ranks, at least 1; and whether any rank is to stop.

    Exchanged between the hosts: no GPU is waited for, and all ranks stop after the same step.
    """
    num_boxes = sum(len(targets.labels) for batch in batches for targets in batch.targets)
    means = distributed.reduce_mean(torch.tensor([num_boxes, stop], dtype=torch.float64))
    return max(means[0].item(), 1.0), means[1].item() > 0


def accumulate_gradients(
    model: nn.Module,
    criterion: SetCriterion,
    batches: Sequence[TrainingBatch],
    num_boxes: float,
    *,
    device: torch.device,
    precision: Precision,
) -> Losses:
    """Forward, loss and backward of each batch; the gradients add up to those of all as one batch.

    Args:
        model: the detector, in DDP where there are several processes: they exchange gradients once.
        batches: of one step; each moves to `device` when it is its turn.
        num_boxes: boxes of all of them, averaged over the ranks: what every loss is divided by.
        precision: `fp32`, `tf32`, or `bf16` autocast.

    Returns:
        The losses of the step.
    """
    losses: Losses | None = None
    for number, batch in enumerate(batches, 1):
        batch = batch.to(device, non_blocking=True)
        with _exchange(model, is_last=number == len(batches)), computing_in(precision):
            with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
                output = model(batch.clip)
            part = criterion(output, batch.targets, num_boxes)
            part.total.backward()
        losses = part if losses is None else losses + part
    assert losses is not None
    return losses


def _exchange(model: nn.Module, is_last: bool) -> AbstractContextManager[None]:
    if is_last or not isinstance(model, DistributedDataParallel):
        return nullcontext()
    return model.no_sync()
