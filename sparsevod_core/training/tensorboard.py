"""The lines of metrics.jsonl as TensorBoard shows them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from sparsevod_core.errors import ConfigError


class TensorBoardLog:
    """Writes every number of a record under `KIND/NAME` at its step.

    Args:
        folder: of the event files.
        after_step: a run goes on from here; what an earlier process wrote of later steps is hidden.

    Raises:
        ConfigError: TensorBoard is not installed.
    """

    def __init__(self, folder: Path, after_step: int) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise ConfigError(
                "train.tensorboard=true: TensorBoard is not installed",
                hint="pip install 'sparsevod[tensorboard]', or leave it out: metrics.jsonl has all "
                "numbers too",
            ) from error
        self._writer = SummaryWriter(str(folder), purge_step=after_step + 1)

    def log(self, record: Mapping[str, Any]) -> None:
        """Write one line of metrics.jsonl."""
        for name, value in _numbers(record):
            if name not in ("kind", "step"):
                self._writer.add_scalar(f"{record['kind']}/{name}", value, record["step"])
        self._writer.flush()


def _numbers(record: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, float]]:
    for name, value in record.items():
        if isinstance(value, Mapping):
            yield from _numbers(value, f"{prefix}{name}/")
        elif isinstance(value, int | float):
            yield f"{prefix}{name}", value
