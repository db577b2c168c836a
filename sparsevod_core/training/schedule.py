"""Length of a run, its learning rate, and what is due after which step."""

from __future__ import annotations

import math
from dataclasses import dataclass

from sparsevod_core.config import TrainConfig

STEP_DECAY = 0.1


@dataclass(frozen=True, slots=True)
class Schedule:
    """Epochs, learning rate and due dates of a run, all functions of the number of steps done.

    A resumed run therefore needs no scheduler state.

    Attributes:
        steps_per_epoch: Number of optimizer steps in an epoch, with this training set and these
            processes.
    """

    config: TrainConfig
    steps_per_epoch: int

    @property
    def recipe_steps(self) -> int:
        """Number of steps that the learning rate spans: all epochs, or `max_steps` if greater.

        A run that `max_steps` ends early thus takes the same steps as a longer one.
        """
        return max(self.config.epochs * self.steps_per_epoch, self.config.max_steps or 0)

    @property
    def total_steps(self) -> int:
        """Number of steps in the run."""
        return self.config.max_steps or self.recipe_steps

    @property
    def num_epochs(self) -> int:
        """Number of epochs in the run; the last may be incomplete."""
        return self.epoch_of(self.total_steps)

    def epoch_of(self, step: int) -> int:
        """Return the epoch of step `step`; both count from 1."""
        return -(-step // self.steps_per_epoch)

    def next_step(self, step: int) -> tuple[int, int]:
        """Return the epoch of the step after `step` steps and its index within it, both from 0."""
        return divmod(step, self.steps_per_epoch)

    def steps_left(self, step: int) -> int:
        """Return the number of steps after `step` until the epoch or the run ends."""
        epoch, _ = self.next_step(step)
        return min((epoch + 1) * self.steps_per_epoch, self.total_steps) - step

    def learning_rate(self, step: int) -> float:
        """Return the rate of the step after `step` steps (paper, section 4.1)."""
        config = self.config
        if config.schedule == "cosine":
            decay = 0.5 * (1 + math.cos(math.pi * min(step / self.recipe_steps, 1)))
        else:
            epoch, _ = self.next_step(step)
            decay = STEP_DECAY ** sum(epoch >= milestone for milestone in config.milestones)
        warm_up = 1.0
        if step < config.warmup_steps:
            warm_up = config.warmup_start + (1 - config.warmup_start) * step / config.warmup_steps
        return config.learning_rate * warm_up * decay

    def is_log_due(self, step: int) -> bool:
        """Return True after step 1, as an early sign of life, and every `log_every` steps."""
        return step == 1 or step % self.config.log_every == 0

    def is_checkpoint_due(self, step: int) -> bool:
        """Return True every `checkpoint_every` steps; the end of an epoch always saves one."""
        return step % self.config.checkpoint_every == 0

    def is_evaluation_due(self, step: int) -> bool:
        """Return True every `eval_every` epochs and at the end of the run."""
        epochs, steps = self.next_step(step)
        if not self.config.eval_every or step == 0:
            return False
        return step == self.total_steps or (steps == 0 and epochs % self.config.eval_every == 0)
