"""SLURM's variables as torch's own.

`srun sparsevod train` with one task for each GPU joins them all; with one task for each machine
and `--gpus N`, each task launches N processes and meets the others at the first machine.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

FIRST_PORT, NUM_PORTS = 20000, 10000


def num_tasks(environment: Mapping[str, str]) -> int:
    """Tasks of the job step that srun started this process in; 1 outside of one.

    A batch script, and a shell in an allocation, are no step of so many tasks.
    """
    return int(environment.get("SLURM_STEP_NUM_TASKS", 1)) if in_step(environment) else 1


def in_step(environment: Mapping[str, str]) -> bool:
    """Whether srun started this process."""
    return "SLURM_PROCID" in environment and "SLURM_STEP_ID" in environment


def num_machines(environment: Mapping[str, str]) -> int:
    """Machines of the job step."""
    return int(environment.get("SLURM_STEP_NUM_NODES", 1))


def endpoint(environment: Mapping[str, str]) -> str:
    """HOST:PORT to meet at: the first machine, and a port that follows from job and step."""
    nodes = environment.get("SLURM_STEP_NODELIST") or environment["SLURM_JOB_NODELIST"]
    key = 31 * int(environment.get("SLURM_JOB_ID", 0)) + int(environment["SLURM_STEP_ID"])
    return f"{first_host(nodes)}:{FIRST_PORT + key % NUM_PORTS}"


def first_host(nodes: str) -> str:
    """The first of a SLURM list: `node[01-04,7],gpu3` is node01."""
    return re.sub(r"\[(\w+)[^\]]*\]", r"\1", nodes).split(",")[0]


def as_torchrun(environment: Mapping[str, str]) -> dict[str, str]:
    """torchrun's variables for a process that is one of several tasks."""
    tasks, machines = num_tasks(environment), num_machines(environment)
    host, port = endpoint(environment).rsplit(":", 1)
    return {
        "RANK": environment["SLURM_PROCID"],
        "WORLD_SIZE": str(tasks),
        "LOCAL_RANK": environment["SLURM_LOCALID"],
        "LOCAL_WORLD_SIZE": str(tasks // machines),
        "MASTER_ADDR": host,
        "MASTER_PORT": port,
    }
