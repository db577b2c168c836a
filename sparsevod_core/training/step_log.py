"""Steps as lines of metrics.jsonl."""

from __future__ import annotations

import time

from jaxtyping import Float
from torch import Tensor

from sparsevod_core import distributed
from sparsevod_core.losses.criterion import Losses
from sparsevod_core.training.loss_window import Files, LossWindow, NonFiniteLossError
from sparsevod_core.training.run_folder import RunFolder


class StepLog:
    """Collects steps, and times them, until `write` makes a line of them.

    Args:
        run: where the lines go; rank 0 writes them.
        clips_per_step: clips of a step on all ranks.
    """

    def __init__(self, run: RunFolder, clips_per_step: int) -> None:
        self.note = ""
        self._run = run
        self._clips_per_step = clips_per_step
        self._window = LossWindow()
        self.start_lap()

    def start_lap(self) -> None:
        """Begin to count time; what passed since the last line is not training."""
        self._lap_start, self._waited_s, self._num_steps = time.monotonic(), 0.0, 0

    def waited(self, seconds: float) -> None:
        """Time in which a step could not begin for want of data."""
        self._waited_s += seconds

    def add(self, step: int, losses: Losses, grad_norm: Float[Tensor, ""], files: Files) -> None:
        """Take note of a step; does not wait for the device."""
        self._window.add(step, losses, grad_norm, files)
        self._num_steps += 1

    def write(self, step: int, epoch: int, rate: float, seconds: float) -> float:
        """Write the mean of the steps since the last line, if there were any.

        Args:
            step: steps done.
            epoch: epoch of the last of them, from 1.
            rate: its learning rate.
            seconds: training time before these steps.

        Returns:
            Training time after these steps.

        Raises:
            NonFiniteLossError: one of them was not finite.
        """
        try:
            means = self._window.read()  # waits for the device, so that the time is right
        except NonFiniteLossError as error:
            if distributed.is_main():
                self._run.keep_batch(error.step, error.files)
            raise
        if not means:
            return seconds
        lap_s = time.monotonic() - self._lap_start
        if distributed.is_main():
            self._run.log(
                {
                    "kind": "train",
                    "step": step,
                    "epoch": epoch,
                    "learning_rate": rate,
                    **{name: float(f"{mean:.6g}") for name, mean in means.items()},
                    "clips_per_s": round(self._num_steps * self._clips_per_step / lap_s, 3),
                    "data_wait_share": round(self._waited_s / lap_s, 4),
                    "seconds": round(seconds + lap_s, 3),
                }
            )
        self.note = f"loss {means['loss']:.3g}"
        self.start_lap()
        return seconds + lap_s
