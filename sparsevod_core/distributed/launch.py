"""Launching of one process per GPU, on one or several machines."""

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

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Processes:
    """Number of processes and machines, by the names of the command-line options.

    Attributes:
        gpus: Number of processes per machine. None: one, or as many as torchrun or srun started.
        device: `auto`, `cpu` or `cuda`, checked against the available devices.
        nodes: Number of machines. Each runs the same command.
        rendezvous: HOST:PORT where the machines meet; HOST is one of them.
        max_restarts: How often to restart all processes after one was lost.
        rendezvous_timeout: How long to wait for the other machines, in seconds.
    """

    gpus: int | None = None
    device: str = "auto"
    nodes: int = 1
    rendezvous: str | None = None
    max_restarts: int = 0
    rendezvous_timeout: int = 600

    def __post_init__(self) -> None:
        minima = {"gpus": 1, "nodes": 1, "max_restarts": 0, "rendezvous_timeout": 1}
        for name, minimum in minima.items():
            value = getattr(self, name)
            if value is not None and value < minimum:
                option = name.replace("_", "-")
                raise ConfigError(f"--{option} {value}: expected at least {minimum}")
        if (self.nodes > 1) != (self.rendezvous is not None):
            raise ConfigError(
                f"--nodes {self.nodes} "
                + ("does not take --rendezvous" if self.nodes == 1 else "needs --rendezvous"),
                hint="run on each machine with --nodes N --rendezvous HOST:PORT, where HOST is "
                "one of them",
            )


def launch(
    function: Callable[Arguments, Result],
    num_processes: int | None,
    device: str,
    /,
    *args: Arguments.args,
    **kwargs: Arguments.kwargs,
) -> Result:
    """Run `launch_on` with processes on this machine only, and return the result of rank 0."""
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
    """Run `function(*args, **kwargs)` in all processes.

    Under torchrun or srun, and for one process, the function runs in this process. Otherwise
    processes are spawned, so it and its arguments must be picklable.

    Args:
        processes: Number of processes and machines.
        reporter: Receives messages about waiting for other machines and about restarts.
        function: A function that can be imported by name. It joins the other processes with
            `distributed.process_group`.

    Returns:
        The result of rank 0, or None on a machine without rank 0.

    Raises:
        ConfigError: More processes than GPUs, or not the number that torchrun or srun started.
        SparseVodError: The error of the first process that failed.
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
            timeout_s=processes.rendezvous_timeout,
            max_restarts=processes.max_restarts,
            reporter=reporter,
        )


def require_devices(num_processes: int, device: str) -> None:
    """Check that this machine has a GPU for every process; on the CPU, any number is fine.

    Raises:
        ConfigError: With the number of available GPUs.
    """
    import torch

    if device == "cpu" or (device.startswith("cuda:") and num_processes == 1):
        return
    if device not in ("auto", "cuda"):
        raise ConfigError(
            f"--device {device} is one device, but --gpus {num_processes} needs {num_processes}",
            hint="remove --device; set CUDA_VISIBLE_DEVICES to select GPUs",
        )
    available = torch.cuda.device_count()
    if num_processes > available and not (device == "auto" and num_processes == 1):
        raise ConfigError(
            f"--gpus {num_processes}: this machine has {available} usable GPU(s)",
            hint=f"use --gpus {available or 1}, or --device cpu --gpus {num_processes} to run on "
            "the CPU",
        )


def _require_as_started(starter: str, started: int, processes: Processes) -> None:
    """Check that the options agree with what torchrun or srun has started."""
    if processes.nodes > 1:
        raise ConfigError(
            f"--nodes {processes.nodes}, but {starter} started this process",
            hint=f"remove --nodes and --rendezvous under {starter}",
        )
    if processes.gpus not in (None, started):
        raise ConfigError(
            f"--gpus {processes.gpus}, but {starter} started {started} process(es) on this machine",
            hint=f"remove --gpus under {starter}",
        )
