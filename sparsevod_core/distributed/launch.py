"""One process for each GPU, on this machine or on several."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ParamSpec, TypeVar

from sparsevod_core.distributed import slurm
from sparsevod_core.errors import ConfigError
from sparsevod_core.reporting import Reporter, SilentReporter

PATIENCE_S = 600  # for the last machine to come

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Processes:
    """How many processes, and where.

    Attributes:
        gpus: on each machine; None is one, or as many as torchrun or srun started.
        device: `auto`, `cpu` or `cuda`, checked against what is there.
        nodes: machines; each runs the same command.
        rendezvous: HOST:PORT, one of the machines, at which they meet.
        max_restarts: how often all processes start again after one was lost.
        patience_s: how long to wait for the other machines.
    """

    gpus: int | None = None
    device: str = "auto"
    nodes: int = 1
    rendezvous: str | None = None
    max_restarts: int = 0
    patience_s: int = PATIENCE_S

    def __post_init__(self) -> None:
        smallest = {"gpus": 1, "nodes": 1, "max_restarts": 0, "patience_s": 1}
        for name, least in smallest.items():
            value = getattr(self, name)
            if value is not None and value < least:
                option = {"patience_s": "rendezvous-timeout"}.get(name, name.replace("_", "-"))
                raise ConfigError(f"--{option} {value}: expected at least {least}")
        if (self.nodes > 1) != (self.rendezvous is not None):
            raise ConfigError(
                f"--nodes {self.nodes} "
                + ("goes without --rendezvous" if self.nodes == 1 else "needs --rendezvous"),
                hint="on each machine: --nodes 2 --rendezvous HOST:PORT, HOST one of them",
            )


def launch(
    function: Callable[Arguments, Result],
    num_processes: int | None,
    device: str,
    /,
    *args: Arguments.args,
    **kwargs: Arguments.kwargs,
) -> Result:
    """`launch_on` for processes of this machine alone; returns what rank 0 returned."""
    processes = Processes(num_processes, device)
    return launch_on(processes, SilentReporter(), function, *args, **kwargs)  # type: ignore[return-value]


def launch_on(
    processes: Processes,
    reporter: Reporter,
    function: Callable[Arguments, Result],
    /,
    *args: Arguments.args,
    **kwargs: Arguments.kwargs,
) -> Result | None:
    """Run `function(*args, **kwargs)` in all processes; returns what rank 0 returned.

    Under torchrun or srun, and for one process, the function simply runs here. Otherwise it and
    its arguments must pickle: processes are spawned. None on a machine without rank 0.

    Args:
        processes: how many, and where.
        reporter: told of the wait for other machines, and of restarts.
        function: importable by name; joins the others with `distributed.process_group`.

    Raises:
        ConfigError: more processes than GPUs, or other than torchrun or srun started.
        SparseVodError: what the first process to fail raised.
    """
    if "WORLD_SIZE" in os.environ:
        started = os.environ.get("LOCAL_WORLD_SIZE", os.environ["WORLD_SIZE"])
        _require_as_started("torchrun", int(started), processes)
        return function(*args, **kwargs)
    if slurm.num_tasks(os.environ) > 1 and processes.nodes == 1:
        tasks, machines = slurm.num_tasks(os.environ), slurm.num_machines(os.environ)
        if tasks != machines or processes.gpus in (None, 1):
            _require_as_started("srun", tasks // machines, processes)
            os.environ.update(slurm.as_torchrun(os.environ))
            return function(*args, **kwargs)
        endpoint = slurm.endpoint(os.environ)
        processes = replace(processes, nodes=machines, rendezvous=endpoint)
    per_machine = processes.gpus or 1
    if per_machine == processes.nodes == 1 and processes.max_restarts == 0:
        return function(*args, **kwargs)
    require_devices(per_machine, processes.device)

    from sparsevod_core.distributed.elastic import run_elastic

    with tempfile.TemporaryDirectory(prefix="sparsevod-launch-") as folder:
        return run_elastic(
            function,
            Path(folder),
            args,
            kwargs,
            per_machine=per_machine,
            machines=processes.nodes,
            endpoint=processes.rendezvous,
            patience_s=processes.patience_s,
            max_restarts=processes.max_restarts,
            reporter=reporter,
        )


def require_devices(num_processes: int, device: str) -> None:
    """Check that every process of this machine gets its own GPU; on the CPU any number is fine.

    Raises:
        ConfigError: naming how many GPUs there are.
    """
    import torch

    if device == "cpu" or (device.startswith("cuda:") and num_processes == 1):
        return
    if device not in ("auto", "cuda"):
        raise ConfigError(
            f"--device {device} names one GPU, --gpus {num_processes} needs as many",
            hint="leave --device out; CUDA_VISIBLE_DEVICES chooses among the GPUs",
        )
    there = torch.cuda.device_count()
    if num_processes > there and not (device == "auto" and num_processes == 1):
        raise ConfigError(
            f"--gpus {num_processes}, but there are {there} usable GPUs on this machine",
            hint=f"--gpus {there or 1}, or --device cpu --gpus {num_processes} to use the CPU",
        )


def _require_as_started(starter: str, started: int, processes: Processes) -> None:
    """Check that the options say nothing else than what torchrun or srun did."""
    if processes.nodes > 1:
        raise ConfigError(
            f"--nodes {processes.nodes}, but {starter} started this process",
            hint=f"leave --nodes and --rendezvous out under {starter}",
        )
    if processes.gpus not in (None, started):
        raise ConfigError(
            f"--gpus {processes.gpus}, but {starter} started {started} process(es) on this machine",
            hint=f"leave --gpus out under {starter}",
        )
