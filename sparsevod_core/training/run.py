"""What each process of a training run does.

Torch is imported when it runs: the process that only launches others stays small and quick.
"""

from __future__ import annotations

from pathlib import Path

from sparsevod_core.config import Config
from sparsevod_core.reporting import Reporter
from sparsevod_core.training.result import TrainingResult


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
    """
    from sparsevod_core import distributed
    from sparsevod_core.inference import resolve_device
    from sparsevod_core.training.trainer import Trainer

    with distributed.process_group(distributed.own_device(resolve_device(device))):
        output = distributed.from_main(output)
        trainer = Trainer(config, output, resume=resume, device=device, reporter=reporter)
        return trainer.fit()
