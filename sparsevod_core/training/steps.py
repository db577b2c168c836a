"""The batches that an epoch still has, step by step."""

from __future__ import annotations

import time
from collections.abc import Iterator
from itertools import islice
from typing import TYPE_CHECKING

from sparsevod_core import distributed
from sparsevod_core.data.loader import TrainingBatch, training_loader

if TYPE_CHECKING:
    from sparsevod_core.training.trainer import Trainer


def rest_of_epoch(trainer: Trainer) -> Iterator[list[TrainingBatch]]:
    """The `train.accumulate` batches of each step to the end of the epoch or run, on the host."""
    train, schedule = trainer.config.train, trainer.schedule
    epoch, first_step = schedule.position(trainer.position.step)
    loader = training_loader(
        trainer.dataset,
        clips_per_gpu=train.clips_per_gpu,
        rank=distributed.rank(),
        world_size=distributed.world_size(),
        epoch=epoch,
        first_step=first_step,
        workers=trainer.config.data.workers,
        seed=trainer.config.seed,
        accumulate=train.accumulate,
    )
    batches = iter(loader)
    for _ in range(schedule.steps_left(trainer.position.step)):
        asked = time.monotonic()
        step = list(islice(batches, train.accumulate))
        trainer.log.waited(time.monotonic() - asked)
        yield step
