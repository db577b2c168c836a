"""Steps as lines of metrics.jsonl."""

from __future__ import annotations

import time

from jaxtyping import Float
from torch import Tensor

from sparsevod_core import distributed
from sparsevod_core.losses.criterion import Losses
from sparsevod_core.training.loss_window import Files, LossWindow
from sparsevod_core.training.metrics import Metrics
from sparsevod_core.training.schedule import Schedule


class StepLog:
    """Collects steps, and times them, until `write` makes a line of them.

    Args:
        metrics: where the lines go; rank 0 writes them.
        schedule: tells the epoch of a step.
        clips_per_step: clips of a step on all ranks.
        seconds: training time before, in a run that goes on.
    """

    def __init__(
        self, metrics: Metrics, schedule: Schedule, clips_per_step: int, seconds: float
    ) -> None:
        self.seconds = seconds
        self.note = ""
        self._metrics = metrics
        self._schedule = schedule
        self._clips_per_step = clips_per_step
        self._window = LossWindow()
        self._step, self._rate = 0, 0.0
        self.start_lap()

    def start_lap(self) -> None:
        """Begin to count time; what passed since the last line is not training."""
        self._lap_start, self._waited_s, self._num_steps = time.monotonic(), 0.0, 0

    def waited(self, seconds: float) -> None:
        """Time in which a step could not begin for want of data."""
        self._waited_s += seconds

    def add(
        self, step: int, rate: float, losses: Losses, grad_norm: Float[Tensor, ""], files: Files
    ) -> None:
        """Take note of step `step`, counted from 1; does not wait for the device."""
        self._window.add(step, losses, grad_norm, files)
        self._step, self._rate = step, rate
        self._num_steps += 1

    def write(self) -> None:
        """Write the mean of the steps since the last line, if there were any.

        Raises:
            NonFiniteLossError: one of them was not finite.
        """
        means = self._window.read()  # waits for the device, so that the time is right
        if not means:
            return
        lap_s = time.monotonic() - self._lap_start
        self.seconds += lap_s
        if distributed.is_main():
            self._metrics.log(
                {
                    "kind": "train",
                    "step": self._step,
                    "epoch": self._schedule.epochs_begun(self._step),
                    "learning_rate": self._rate,
                    **{name: float(f"{mean:.6g}") for name, mean in means.items()},
                    "clips_per_s": round(self._num_steps * self._clips_per_step / lap_s, 3),
                    "data_wait_share": round(self._waited_s / lap_s, 4),
                    "seconds": round(self.seconds, 3),
                }
            )
        self.note = f"loss {means['loss']:.3g}"
        self.start_lap()
