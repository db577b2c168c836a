"""Entry point of every process of a training run.

Torch is imported only when `train` runs, so a process that just launches others stays small.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from sparsevod_core.config import Config
from sparsevod_core.errors import ConfigError, SparseVodError
from sparsevod_core.files.lock import lock_file
from sparsevod_core.reporting import Reporter
from sparsevod_core.training.run_folder import RunFolder, TrainingResult
from sparsevod_core.training.settings import MAY_DIFFER


def train(
    config: Config,
    output: Path,
    *,
    resume: bool = False,
    device: str = "auto",
    reporter: Reporter | None = None,
) -> TrainingResult:
    """Join the other processes that torchrun or `launch` started, if any, and train.

    Arguments and errors are those of `Trainer`; all processes use rank 0's `output`. Restarted
    processes resume from the last checkpoint, if there is one.

    Raises:
        ConfigError: A process has other settings than rank 0, except for `MAY_DIFFER`. Raised on
            every rank, with the first rank and setting that differ.
        DataError: Another run writes to the folder, or it cannot be written.
    """
    from sparsevod_core import distributed
    from sparsevod_core.inference import resolve_device
    from sparsevod_core.training.trainer import Trainer

    with distributed.process_group(distributed.own_device(resolve_device(device))):
        launcher = {"--gpus": os.environ.get("LOCAL_WORLD_SIZE"), "--resume": resume}
        first, *others = distributed.gather({**launcher, **config.flat()})
        for process, other in enumerate(others, start=2):
            differ = [name for name in first if other.get(name) != first[name]]
            if names := [name for name in differ if name not in MAY_DIFFER]:
                raise ConfigError(
                    f"process {process} was started with {names[0]}={other.get(names[0])}, "
                    f"process 1 with {first[names[0]]}",
                    hint="run the same command on all machines",
                )
        output = distributed.from_main(output)
        with _locked(RunFolder(output)):
            # Each machine counts its own restarts: one that lost no process may have none.
            is_restarted = max(distributed.gather(distributed.num_restarts())) > 0
            resume |= is_restarted and RunFolder(output).last.exists()
            resume = distributed.from_main(resume)
            trainer = Trainer(config, output, resume=resume, device=device, reporter=reporter)
            return trainer.fit()


@contextmanager
def _locked(run: RunFolder) -> Iterator[None]:
    """Hold the lock of a run folder, on rank 0; its error is raised on every rank."""
    from sparsevod_core import distributed

    with ExitStack() as stack:
        failure: SparseVodError | None = None
        if distributed.is_main():
            try:
                stack.enter_context(lock_file(run.lock, run.path))
            except SparseVodError as error:
                failure = error
        failure = distributed.from_main(failure)
        if failure is not None:
            raise failure
        yield
