"""What each process of a training run does: all start alike, and go on where one was lost.

Torch is imported when it runs: the process that only launches others stays small and quick.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from sparsevod_core.config import Config
from sparsevod_core.errors import ConfigError
from sparsevod_core.reporting import Reporter
from sparsevod_core.training.result import TrainingResult
from sparsevod_core.training.run_folder import RunFolder

MAY_DIFFER = (
    "data.train_annotations",
    "data.train_root",
    "data.val_annotations",
    "data.val_root",
    "data.workers",
)
"""Between machines: where the files are, and how many processes read them."""


def train(
    config: Config,
    output: Path,
    *,
    resume: bool = False,
    device: str = "auto",
    reporter: Reporter | None = None,
) -> TrainingResult:
    """Join the other processes, if torchrun or `launch` started some, and train.

    The arguments and what is raised are those of `Trainer`; rank 0's `output` is everyone's.
    Processes that were started again go on from the last checkpoint, if there is one.

    Raises:
        ConfigError: a process has another setting than rank 0.
    """
    from sparsevod_core import distributed
    from sparsevod_core.inference import resolve_device
    from sparsevod_core.training.trainer import Trainer

    with distributed.process_group(distributed.own_device(resolve_device(device))):
        require_alike(_essence(config, resume))
        output = distributed.from_main(output)
        # Machines count differently: one that lost no process has restarted nothing.
        again = max(distributed.gather(distributed.num_restarts())) > 0
        resume = distributed.from_main(resume or (again and RunFolder(output).last.exists()))
        trainer = Trainer(config, output, resume=resume, device=device, reporter=reporter)
        return trainer.fit()


def require_alike(settings: dict[str, Any]) -> None:
    """Check that all ranks have rank 0's settings.

    Raises:
        ConfigError: on every rank, naming the first that differs, and the setting.
    """
    from sparsevod_core import distributed

    first, *others = distributed.gather(settings)
    for rank, other in enumerate(others, start=1):
        for name, value in first.items():
            if other.get(name) != value:
                raise ConfigError(
                    f"process {rank + 1} was started with {name}={other.get(name)}, "
                    f"process 1 with {value}",
                    hint="all machines run the same command",
                )


def _essence(config: Config, resume: bool) -> dict[str, Any]:
    """What must be the same everywhere, by the names that a user knows."""
    settings: dict[str, Any] = {
        "--gpus": os.environ.get("LOCAL_WORLD_SIZE"),
        "--resume": resume,
    }
    return settings | {k: value for k, value in config.flat().items() if k not in MAY_DIFFER}
