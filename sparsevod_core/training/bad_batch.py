"""What is kept of a batch whose loss was not finite, so that it can be repeated."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from sparsevod_core import distributed
from sparsevod_core.data.loader import epoch_batches
from sparsevod_core.training.loss_window import NonFiniteLossError
from sparsevod_core.training.run_folder import write_text

if TYPE_CHECKING:
    from sparsevod_core.training.trainer import Trainer


@contextmanager
def bad_batch_is_kept(trainer: Trainer) -> Iterator[None]:
    """Writes bad_batch.json where the loss is not finite, and tells how to get there again.

    Its keys: `step`, from 1; `epoch`, from 0; `seed`; `clips`, each with its `index` and `files`,
    the target's first. `ClipDataset[epoch, index]` of the run's config makes the clip again, as it
    was. The weights are not kept, since the step has spoiled them; the steps from the last
    checkpoint on, taken again, lead to the same.
    """
    try:
        yield
    except NonFiniteLossError as error:
        run = trainer.run
        resume = run.resume_command(distributed.launch_options())
        if distributed.is_main():
            write_text(run.bad_batch, json.dumps(_record(trainer, error), indent=2) + "\n")
        error.hint = (
            f"{error.hint}; {run.bad_batch} says which clips these were; to take the steps from "
            f"the last checkpoint to this one again: {resume} --max-steps {error.step}"
        )
        raise


def _record(trainer: Trainer, error: NonFiniteLossError) -> dict[str, Any]:
    config = trainer.config
    epoch, step_in_epoch = trainer.schedule.position(error.step - 1)
    indices = [
        index
        for rank in error.ranks
        for index in epoch_batches(
            len(trainer.dataset),
            clips_per_gpu=config.train.clips_per_gpu * config.train.accumulate,
            rank=rank,
            world_size=distributed.world_size(),
            epoch=epoch,
            seed=config.seed,
        )[step_in_epoch]
    ]
    clips = [
        {"index": index, "files": list(files)}
        for index, files in zip(indices, error.files, strict=True)
    ]
    return {"step": error.step, "epoch": epoch, "seed": config.seed, "clips": clips}
