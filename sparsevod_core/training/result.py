"""What a finished run came to."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class TrainingResult:
    """What a finished run came to.

    Attributes:
        run: the run folder.
        steps: optimiser steps done in all.
        seconds: time spent in them.
        best: numbers of the best evaluation (`step`, `AP`, `AP50`, `AP75`), None without one.
        checkpoint: the one to use: best.pth, or last.pth where nothing was evaluated.
    """

    run: Path
    steps: int
    seconds: float
    best: dict[str, Any] | None
    checkpoint: Path

    def to_dict(self) -> dict[str, Any]:
        """For JSON; paths are text."""
        return {**asdict(self), "run": str(self.run), "checkpoint": str(self.checkpoint)}
