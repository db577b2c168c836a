"""The error of a loss that is not finite, and the record of its batch."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from sparsevod_core import distributed
from sparsevod_core.config import Config
from sparsevod_core.data.loader import epoch_batches
from sparsevod_core.errors import SparseVodError
from sparsevod_core.files.unfinished import write_text
from sparsevod_core.training.run_folder import RunFolder
from sparsevod_core.training.schedule import Schedule

MAX_FILES_IN_MESSAGE = 8  # bad_batch.json lists all

Files = Sequence[tuple[str, ...]]


class NonFiniteLossError(SparseVodError):
    """A loss or its gradient is infinite or not a number.

    Attributes:
        step: First such step, counted from 1.
        files: Target and support frames of each clip of the batch, for all of `ranks`.
        ranks: Ranks whose losses are not finite; all ranks if only the gradient is not.
    """

    def __init__(
        self, step: int, values: Mapping[str, float], files: Files, ranks: Sequence[int]
    ) -> None:
        targets = [clip[0] for clip in files]
        frames = ", ".join(targets[:MAX_FILES_IN_MESSAGE])
        if len(targets) > MAX_FILES_IN_MESSAGE:
            frames += f" and {len(targets) - MAX_FILES_IN_MESSAGE} more"
        losses = ", ".join(f"{name} {value:g}" for name, value in values.items())
        super().__init__(
            f"step {step}: the loss is not finite ({losses}); target frames of the batch: {frames}",
            hint="check these frames and their boxes; if they are correct, lower "
            "train.learning_rate or train.clip_grad_norm, or start from weights with --init-from",
        )
        self.step = step
        self.files = files
        self.ranks = ranks


def non_finite_error(step: int, values: Mapping[str, float], files: Files) -> NonFiniteLossError:
    """Return the error of a step, with the clips of all ranks at fault; all ranks must call it.

    Args:
        step: The step, counted from 1.
        values: This rank's losses, and `grad_norm`, which all ranks share.
        files: Target and support frames of each of this rank's clips.
    """
    is_own = not all(math.isfinite(v) for name, v in values.items() if name != "grad_norm")
    by_rank = distributed.gather((is_own, list(files)))
    ranks = [rank for rank, (is_bad, _) in enumerate(by_rank) if is_bad] or range(len(by_rank))
    return NonFiniteLossError(step, values, [clip for r in ranks for clip in by_rank[r][1]], ranks)


@contextmanager
def recording_bad_batch(
    run: RunFolder, config: Config, schedule: Schedule, num_clips: int
) -> Iterator[None]:
    """Write bad_batch.json on a NonFiniteLossError, and add to its hint how to reproduce it.

    The file holds `step`, counted from 1, `epoch`, counted from 0, `seed` and `clips`. Each clip
    has its `index` and `files`, target frame first. `ClipDataset[epoch, index]` with the config of
    the run returns exactly this clip. The step has spoiled the weights, but repeating the steps
    since the last checkpoint restores them.
    """
    try:
        yield
    except NonFiniteLossError as error:
        epoch, step_in_epoch = schedule.next_step(error.step - 1)
        indices: list[int] = []
        for rank in error.ranks:
            indices += epoch_batches(
                num_clips,
                clips_per_gpu=config.train.clips_per_gpu * config.train.accumulate,
                rank=rank,
                world_size=distributed.world_size(),
                epoch=epoch,
                seed=config.seed,
            )[step_in_epoch]
        pairs = zip(indices, error.files, strict=True)
        clips = [{"index": index, "files": list(files)} for index, files in pairs]
        record = {"step": error.step, "epoch": epoch, "seed": config.seed, "clips": clips}
        resume = run.resume_command(distributed.launch_options())
        if distributed.is_main():
            write_text(run.bad_batch, json.dumps(record, indent=2) + "\n")
        error.hint = (
            f"{error.hint}; {run.bad_batch} lists the clips; to repeat the steps from the last "
            f"checkpoint to this one: {resume} --max-steps {error.step}; to train on after that: "
            f"{resume} --set train.max_steps=none"
        )
        raise
