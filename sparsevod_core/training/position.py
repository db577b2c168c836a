"""Where a run stands, and how it gets back there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from torch.optim import Optimizer

from sparsevod_core import distributed
from sparsevod_core.checkpoint import Checkpoint, load_checkpoint
from sparsevod_core.config import Config
from sparsevod_core.errors import CheckpointError, ConfigError, DataError
from sparsevod_core.model.detector import SparseVOD
from sparsevod_core.structures import Category
from sparsevod_core.training.run_folder import RunFolder
from sparsevod_core.training.settings import require_same_run
from sparsevod_core.training.weight_average import WeightAverage

BEST = ("AP", "AP50", "AP75")


@dataclass(kw_only=True)
class Position:
    """With weights and optimiser state, all that resuming needs.

    No schedule and no random state: the learning rate is a function of the step, a clip one of
    (seed, epoch, index), and the model draws nothing.

    Attributes:
        num_clips: target frames of the training set; with `world_size` what the order of the data
            depends on.
        world_size: processes that train.
        step: optimiser steps done.
        evaluated_step: the step of the last evaluation.
        best: `step`, `AP`, `AP50` and `AP75` of the evaluation that best.pth is from.
        num_worse: evaluations since then.
        seconds: time spent training.
    """

    num_clips: int
    world_size: int
    step: int = 0
    evaluated_step: int = 0
    best: dict[str, Any] | None = None
    num_worse: int = 0
    seconds: float = 0.0

    def take_in(self, scores: Mapping[str, Any]) -> bool:
        """Take note of an evaluation at this step; returns whether its AP is the best so far."""
        is_best = self.best is None or scores["AP"] > self.best["AP"]
        if is_best:
            self.best = {"step": self.step} | {name: scores[name] for name in BEST}
        self.num_worse = 0 if is_best else self.num_worse + 1
        self.evaluated_step = self.step
        return is_best


def training_state(
    position: Position,
    detector: SparseVOD,
    optimizer: Optimizer,
    average: WeightAverage | None,
) -> dict[str, Any]:
    """What last.pth holds beside the weights to use, which are the average where there is one."""
    state = {"optimizer": optimizer.state_dict(), "position": asdict(position)}
    if average is not None:
        state["weights"] = dict(detector.state_dict())
    return state


def restore(
    run: RunFolder,
    config: Config,
    categories: Sequence[Category],
    detector: SparseVOD,
    optimizer: Optimizer,
    average: WeightAverage | None,
    now: Position,
) -> Position:
    """Load weights, their average and optimiser state of last.pth; returns its position.

    Args:
        run: the run to go on with.
        config: its settings, but for what a resumed run may change.
        categories: of the training annotations as they are now.
        detector, optimizer, average: what to load into.
        now: the training set and processes as they are now.

    Raises:
        ConfigError: other settings or another number of processes.
        DataError: the training set is not the one that the run began with.
        CheckpointError: no checkpoint of a run, or a damaged one: then the one before is offered.
    """
    try:
        checkpoint = load_checkpoint(run.last)
    except CheckpointError as error:
        raise CheckpointError(error.message, _way_back(run) or error.hint) from error
    if checkpoint.training is None:
        raise CheckpointError(
            f"{run.last}: holds weights only, there is nothing to resume",
            hint=f"start a new run from them: --init-from {run.last}",
        )
    position = Position(**checkpoint.training["position"])
    require_same_run(checkpoint.config, config)
    if now.world_size != position.world_size:
        raise ConfigError(
            f"{run.path}: was trained by {position.world_size} process(es), not {now.world_size}: "
            "other processes would see other clips",
            hint=f"--gpus {position.world_size}",
        )
    if now.num_clips != position.num_clips or tuple(categories) != checkpoint.categories:
        raise DataError(
            f"{config.data.train_annotations}: has {now.num_clips} frames to train on and "
            f"{len(categories)} classes; the run began with {position.num_clips} and "
            f"{len(checkpoint.categories)}, or with other class names",
            hint=f"a new run on this data: --init-from {run.last}",
        )
    detector.load_state_dict(checkpoint.training.get("weights", checkpoint.model))
    if average is not None:
        average.detector.load_state_dict(checkpoint.model)
    optimizer.load_state_dict(checkpoint.training["optimizer"])
    return position


def _way_back(run: RunFolder) -> str | None:
    """How to go on from previous.pth, where that is whole."""
    try:
        checkpoint: Checkpoint = load_checkpoint(run.previous)
    except CheckpointError:
        return None
    if checkpoint.training is None:
        return None
    step = checkpoint.training["position"]["step"]
    resume = run.resume_command(distributed.launch_options())
    return (
        f"the checkpoint before it, of step {step:,}, is whole; to go on from there: "
        f"mv {run.previous} {run.last} && {resume}"
    )
