"""The numbers of a run, where people look for them: metrics.jsonl and TensorBoard."""

from __future__ import annotations

from typing import Any

from sparsevod_core import distributed
from sparsevod_core.training.run_folder import RunFolder
from sparsevod_core.training.tensorboard import TensorBoardLog


class Metrics:
    """Takes records from rank 0.

    Args:
        run: the folder.
        after_step: of a run that goes on, steps done.
        tensorboard: whether TensorBoard gets them too.

    Raises:
        ConfigError: TensorBoard is not installed.
    """

    def __init__(self, run: RunFolder, *, after_step: int, tensorboard: bool) -> None:
        self._run = run
        self._tensorboard: TensorBoardLog | None = None
        if tensorboard and distributed.is_main():
            self._tensorboard = TensorBoardLog(run.tensorboard, after_step)

    def log(self, record: dict[str, Any]) -> None:
        """Write one record: its `kind`, `step` and numbers."""
        self._run.log(record)
        if self._tensorboard is not None:
            self._tensorboard.log(record)
