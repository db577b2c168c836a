"""How long a run is, where its epochs begin, and what is due at which step."""

from __future__ import annotations

from dataclasses import dataclass

from sparsevod_core.config import TrainConfig
from sparsevod_core.training.optim import learning_rate


@dataclass(frozen=True, slots=True)
class Schedule:
    """Everything that follows from the number of steps done; a run keeps nothing else of it.

    Attributes:
        config: epochs or steps, and how often.
        steps_per_epoch: of this training set with these processes.
    """

    config: TrainConfig
    steps_per_epoch: int

    @property
    def recipe_steps(self) -> int:
        """Steps of all epochs, or more where `max_steps` says so: what the learning rate spans.

        So a run that `max_steps` ends early takes the same steps as one that goes on.
        """
        return max(self.config.epochs * self.steps_per_epoch, self.config.max_steps or 0)

    @property
    def total_steps(self) -> int:
        """Steps of the run."""
        return self.config.max_steps or self.recipe_steps

    @property
    def num_epochs(self) -> int:
        """Epochs of the run; the last may be cut short."""
        return -(-self.total_steps // self.steps_per_epoch)

    def position(self, step: int) -> tuple[int, int]:
        """Epoch, from 0, and step within it of the next step, after `step` steps."""
        return divmod(step, self.steps_per_epoch)

    def epochs_begun(self, step: int) -> int:
        """The epoch of the last of `step` steps, from 1."""
        return -(-step // self.steps_per_epoch)

    def steps_left(self, step: int) -> int:
        """Steps after `step` to the end of its epoch or of the run."""
        epoch, _ = self.position(step)
        return min((epoch + 1) * self.steps_per_epoch, self.total_steps) - step

    def learning_rate(self, step: int) -> float:
        """Rate of the next step, after `step` steps."""
        return learning_rate(
            step,
            self.config,
            steps_per_epoch=self.steps_per_epoch,
            total_steps=self.recipe_steps,
        )

    def is_log_due(self, step: int) -> bool:
        """After the first step, to see that all is well, and then every `log_every`."""
        return step == 1 or step % self.config.log_every == 0

    def is_checkpoint_due(self, step: int) -> bool:
        """Every `checkpoint_every` steps; the end of an epoch has one anyway."""
        return step % self.config.checkpoint_every == 0

    def is_evaluation_due(self, step: int) -> bool:
        """Every `eval_every` epochs, and at the end of the run."""
        epochs, steps = self.position(step)
        if not self.config.eval_every or step == 0:
            return False
        return step == self.total_steps or (steps == 0 and epochs % self.config.eval_every == 0)
