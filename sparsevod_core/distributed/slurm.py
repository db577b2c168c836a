"""Translation of SLURM's environment variables to torchrun's.

With one task per GPU, `srun sparsevod train` joins all tasks. With one task per machine and
`--gpus N`, each task launches N processes, which meet at the first machine.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

FIRST_PORT, NUM_PORTS = 20000, 10000


def num_tasks(environment: Mapping[str, str]) -> int:
    """Return the number of tasks in the job step of this process.

    It is 1 outside of a step, which includes batch scripts and shells in an allocation.
    """
    return int(environment.get("SLURM_STEP_NUM_TASKS", 1)) if in_step(environment) else 1


def in_step(environment: Mapping[str, str]) -> bool:
    """Return True if srun started this process."""
    return "SLURM_PROCID" in environment and "SLURM_STEP_ID" in environment


def num_machines(environment: Mapping[str, str]) -> int:
    """Return the number of machines in the job step."""
    return int(environment.get("SLURM_STEP_NUM_NODES", 1))


def endpoint(environment: Mapping[str, str]) -> str:
    """Return HOST:PORT to meet at: the first machine, and a port derived from job and step."""
    nodes = environment.get("SLURM_STEP_NODELIST") or environment["SLURM_JOB_NODELIST"]
    key = 31 * int(environment.get("SLURM_JOB_ID", 0)) + int(environment["SLURM_STEP_ID"])
    return f"{first_host(nodes)}:{FIRST_PORT + key % NUM_PORTS}"


def first_host(nodes: str) -> str:
    """Return the first host of a SLURM list, e.g. node01 of `node[01-04,7],gpu3`."""
    return re.sub(r"\[(\w+)[^\]]*\]", r"\1", nodes).split(",")[0]


def as_torchrun(environment: Mapping[str, str]) -> dict[str, str]:
    """Return torchrun's variables for a process that is one of several tasks."""
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
