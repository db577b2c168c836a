"""State of a run: what last.pth holds besides the weights, and the checks before resuming."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from shlex import quote
from typing import Any

from torch.optim import Optimizer

from sparsevod_core import distributed
from sparsevod_core.checkpoint import load_checkpoint
from sparsevod_core.config import Config
from sparsevod_core.errors import CheckpointError, ConfigError, DataError
from sparsevod_core.model.video_detector import VideoDetector
from sparsevod_core.structures import Category
from sparsevod_core.training.optim import WeightAverage
from sparsevod_core.training.run_folder import RunFolder
from sparsevod_core.training.settings import require_same_run
from sparsevod_core.weights_file import require_finite

SCORES = ("AP", "AP50", "AP75")


@dataclass(kw_only=True)
class RunState:
    """State needed to resume a run, in addition to weights and optimizer state.

    It holds no scheduler state and no random state: the learning rate depends on the step only, a
    clip on (seed, epoch, index), and what the model draws on (seed, step, batch, rank).

    Attributes:
        num_clips: Number of target frames in the training set. With `world_size`, it determines
            the order of the data.
        world_size: Number of processes.
        step: Number of optimizer steps done.
        evaluated_step: Step of the last evaluation.
        best: `step`, `AP`, `AP50` and `AP75` of the evaluation that best.pth belongs to;
            None before the first one with an AP.
        num_worse: Number of evaluations since then.
        scored_on: Digest of the validation set and the settings of these evaluations; None before
            the first one, and in checkpoints of older versions.
        seconds: Training time.
    """

    num_clips: int
    world_size: int
    step: int = 0
    evaluated_step: int = 0
    best: dict[str, Any] | None = None
    num_worse: int = 0
    scored_on: str | None = None
    seconds: float = 0.0

    def score_on(self, scored_on: str | None) -> bool:
        """Return True if earlier evaluations do not compare with those to come, and forget them."""
        is_other = None not in (scored_on, self.scored_on) and scored_on != self.scored_on
        if is_other:
            self.best, self.num_worse = None, 0
        self.scored_on = scored_on or self.scored_on
        return is_other

    def record_evaluation(self, scores: Mapping[str, Any]) -> bool:
        """Record an evaluation at this step and return True if its AP is the best so far.

        One without AP, because no box counts, is neither better nor worse.
        """
        self.evaluated_step = self.step
        if scores["AP"] is None:
            return False
        is_best = self.best is None or scores["AP"] > self.best["AP"]
        if is_best:
            self.best = {"step": self.step} | {k: scores[k] for k in SCORES}
        self.num_worse = 0 if is_best else self.num_worse + 1
        return is_best


def training_state(
    state: RunState, detector: VideoDetector, optimizer: Optimizer, average: WeightAverage | None
) -> dict[str, Any]:
    """Return `Checkpoint.training`: what resuming needs besides `Checkpoint.model`.

    With a weight average, `Checkpoint.model` is the average, so this holds the trained weights.
    """
    # The key "position" is part of the file format.
    training = {"optimizer": optimizer.state_dict(), "position": asdict(state)}
    if average is not None:
        training["weights"] = dict(detector.state_dict())
    return training


def restore(
    run: RunFolder,
    config: Config,
    categories: Sequence[Category],
    now: RunState,
    detector: VideoDetector,
    optimizer: Optimizer,
    average: WeightAverage | None,
) -> RunState:
    """Load last.pth into detector, optimizer and weight average, and return the state of the run.

    Args:
        config: Settings of the run, with the changes that a resumed run may make.
        categories: Classes of the training annotations as they are now.
        now: Size of the training set and number of processes as they are now.

    Raises:
        ConfigError: Other settings or another number of processes.
        DataError: The training set has changed.
        CheckpointError: No checkpoint of a run, or a corrupt one. The hint then offers the
            previous checkpoint.
    """
    try:
        checkpoint = load_checkpoint(run.last)
    except CheckpointError as error:
        hint = _previous_checkpoint_hint(run) or error.hint
        raise CheckpointError(error.message, hint) from error
    if checkpoint.training is None:
        raise CheckpointError(
            f"{run.last}: has only weights, so it cannot be resumed",
            hint=f"start a new run from these weights: --init-from {run.last}",
        )
    state = _run_state(run.last, checkpoint.training.get("position"))
    if now.world_size != state.world_size:
        raise ConfigError(
            f"{run.path}: was trained by {state.world_size} process(es), not {now.world_size}; "
            "another number of processes would change the order of the clips",
            hint=f"use --gpus {state.world_size}",
        )
    if now.num_clips != state.num_clips or tuple(categories) != checkpoint.categories:
        raise DataError(
            f"{config.data.train_annotations}: the training set has changed: expected "
            f"{state.num_clips} target frames and {len(checkpoint.categories)} classes, got "
            f"{now.num_clips} and {len(categories)}, or other class names",
            hint=f"start a new run on this data: --init-from {run.last}",
        )
    require_same_run(checkpoint.config, config)
    weights = checkpoint.training.get("weights", checkpoint.model)
    try:
        require_finite(run.last, weights)
        detector.load_state_dict(weights)
        if average is not None:
            average.detector.load_state_dict(checkpoint.model)
        _load_optimizer(optimizer, checkpoint.training["optimizer"])
    except (AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
        reason = str(error).partition("\n")[0][:160]
        raise CheckpointError(
            f"{run.last}: not the state of this training run: {reason}",
            _previous_checkpoint_hint(run),
        ) from error
    return state


def _run_state(path: Path, position: Any) -> RunState:
    """Return the state in a checkpoint.

    Raises:
        CheckpointError: It is not the state of a run.
    """
    if isinstance(position, dict):
        others = ("best", "scored_on")
        numbers = {name: value for name, value in position.items() if name not in others}
        best, scored_on = position.get("best"), position.get("scored_on")
        with suppress(TypeError):  # missing or unknown names
            state = RunState(**position)
            are_counts = all(
                type(value) in (int, float) and 0 <= value < 2**63 for value in numbers.values()
            )
            has_scores = best is None or (
                isinstance(best, dict)
                and all(type(best.get(key)) in (int, float) for key in ("step", *SCORES))
            )
            if are_counts and has_scores and isinstance(scored_on, str | None):
                return state
    raise CheckpointError(f"{path}: its training state has no valid `position`")


def _load_optimizer(optimizer: Optimizer, saved: Any) -> None:
    """Load the moments of each parameter; everything else follows from the settings.

    Raises:
        ValueError: They belong to other parameters. Other errors for a state of another form.
    """
    groups = optimizer.state_dict()["param_groups"]
    if [group["params"] for group in saved["param_groups"]] != [g["params"] for g in groups]:
        raise ValueError("the optimizer has other parameters")
    sizes = [p.shape for group in optimizer.param_groups for p in group["params"]]
    for number, moments in saved["state"].items():
        require_finite(f"moments of parameter {number}", moments)
        if {value.shape for value in moments.values() if value.dim()} - {sizes[number]}:
            raise ValueError(f"the moments of parameter {number} have another shape")
    optimizer.load_state_dict({"state": saved["state"], "param_groups": groups})


def _previous_checkpoint_hint(run: RunFolder) -> str | None:
    """Return how to resume from previous.pth, or None if it is not usable."""
    try:
        training = load_checkpoint(run.previous).training
    except CheckpointError:
        training = None
    try:
        step = _run_state(run.previous, (training or {}).get("position")).step
    except CheckpointError:
        return None
    resume = run.resume_command(distributed.launch_options())
    return (
        f"the previous checkpoint, of step {step:,}, is intact; to resume "
        f"from it: mv {quote(str(run.previous))} {quote(str(run.last))} && {resume}"
    )
