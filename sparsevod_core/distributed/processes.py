"""Rank of this process, and collective operations between the processes of a run.

Ranks come from torchrun's variables. In a single process, every function works as with one rank.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from sparsevod_core.errors import ConfigError

TIMEOUT = timedelta(hours=12)  # a rank may wait while another evaluates long videos or scores
VARIABLES = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")

Value = TypeVar("Value")

_store: dist.Store | None = None  # the rendezvous store, also used for counters


def is_launched() -> bool:
    """Return True if torchrun or `launch` started this process as one of several."""
    return "WORLD_SIZE" in os.environ


def num_restarts() -> int:
    """Return how often this machine's launcher has restarted the processes."""
    return int(os.environ.get("TORCHELASTIC_RESTART_COUNT", 0))


def is_joined() -> bool:
    """Return True if this process has joined a process group."""
    return dist.is_initialized()


def rank() -> int:
    """Return the rank of this process, from 0."""
    return dist.get_rank() if is_joined() else 0


def world_size() -> int:
    """Return the number of processes in the group; 1 without a group."""
    return dist.get_world_size() if is_joined() else 1


def launch_options() -> str:
    """Return the options that start the same number of processes, with a leading space."""
    if world_size() == 1:
        return ""
    on_this_machine = int(os.environ.get("LOCAL_WORLD_SIZE", world_size()))
    num_nodes = world_size() // on_this_machine
    nodes = f" --nodes {num_nodes} --rendezvous HOST:PORT" if num_nodes > 1 else ""
    return f" --gpus {on_this_machine}{nodes}"


def is_main() -> bool:
    """Return True in the process that logs and writes files."""
    return rank() == 0


def own_device(device: torch.device) -> torch.device:
    """Return the GPU of this process for `cuda`, and any other device unchanged.

    If a scheduler makes only one GPU visible to each process, it is that one.
    """
    if device.type == "cuda" and device.index is None:
        is_only_one = torch.cuda.device_count() == 1
        return torch.device("cuda", 0 if is_only_one else int(os.environ.get("LOCAL_RANK", 0)))
    return device


@contextmanager
def process_group(device: torch.device) -> Iterator[None]:
    """Join the other processes, with NCCL between GPUs and gloo between hosts.

    A GPU run uses both, so that ranks can exchange small values without waiting for the GPU. In a
    single process, and inside another such context, nothing happens.

    Raises:
        ConfigError: WORLD_SIZE is set, but another of torchrun's variables is not.
    """
    if not is_launched() or is_joined():
        yield
        return
    missing = [name for name in VARIABLES if name not in os.environ]
    if missing:
        raise ConfigError(
            f"WORLD_SIZE is set, which means several processes, but not {', '.join(missing)}",
            hint="start the run with torchrun or --gpus N, or unset WORLD_SIZE",
        )
    if device.type == "cuda":
        torch.cuda.set_device(device)
    global _store
    backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
    _store, group_rank, group_size = next(dist.rendezvous("env://", timeout=TIMEOUT))
    dist.init_process_group(
        backend,
        store=dist.PrefixStore("group", _store),
        rank=group_rank,
        world_size=group_size,
        timeout=TIMEOUT,
    )
    yield
    dist.destroy_process_group()  # not after an error: it could deadlock with waiting ranks
    _store = None


def reduce_mean(tensor: Tensor) -> Tensor:
    """Return the mean over the ranks, on the tensor's device."""
    if not is_joined():
        return tensor
    total = tensor.clone()
    dist.all_reduce(total)
    return total / world_size()


def gather(value: Value) -> list[Value]:
    """Return the values of all ranks, by rank. Any picklable value works."""
    if not is_joined():
        return [value]
    values: list[Value | None] = [None] * world_size()
    dist.all_gather_object(values, value)
    return values  # type: ignore[return-value]


def gather_on_main(value: Value) -> list[Value]:
    """Like `gather`, but only rank 0 gets the values; the others get an empty list."""
    if not is_joined():
        return [value]
    values: list[Value | None] | None = [None] * world_size() if is_main() else None
    dist.gather_object(value, values)
    return values or []  # type: ignore[return-value]


def from_main(value: Value) -> Value:
    """Return rank 0's value on every rank. Any picklable value works."""
    if not is_joined():
        return value
    values = [value]
    dist.broadcast_object_list(values, src=0)
    return values[0]


class Tally:
    """Counter shared by all ranks, which they read and add to without waiting for each other.

    All ranks must create their tallies in the same order.
    """

    _num_created = 0

    def __init__(self) -> None:
        self._name = f"tally/{Tally._num_created}"
        self._local = 0  # the count without a process group
        Tally._num_created += 1

    def add(self, count: int) -> int:
        """Add `count` and return the sum over the ranks so far."""
        if _store is not None:
            return _store.add(self._name, count)
        self._local += count
        return self._local


def shared_out(items: Sequence[Value]) -> Iterator[Value]:
    """Yield each item on exactly one rank; a rank takes the next item when it is ready for it.

    All ranks must pass the same items.
    """
    taken = Tally()
    while (number := taken.add(1)) <= len(items):
        yield items[number - 1]
