"""Who I am among the processes of a run, and the few things they tell one another.

Ranks come from torchrun's variables. Alone, with nothing started, every function still works and
does the obvious.
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

TIMEOUT = timedelta(hours=12)  # a rank may wait for one that evaluates longer videos, or scores
VARIABLES = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")

Value = TypeVar("Value")

_store: dist.Store | None = None  # what the processes met at; good for small notes too


def is_launched() -> bool:
    """Whether torchrun, or `launch`, started this process as one of several."""
    return "WORLD_SIZE" in os.environ


def num_restarts() -> int:
    """How often the processes were started again, as far as this machine's launcher counted."""
    return int(os.environ.get("TORCHELASTIC_RESTART_COUNT", 0))


def is_joined() -> bool:
    """Whether this process has joined others, or a group of its own."""
    return dist.is_initialized()


def rank() -> int:
    """Position of this process among those that have joined, from 0."""
    return dist.get_rank() if is_joined() else 0


def world_size() -> int:
    """Number of processes that have joined; 1 where none has."""
    return dist.get_world_size() if is_joined() else 1


def launch_options() -> str:
    """The options that start as many processes again, each with a space before it."""
    if world_size() == 1:
        return ""
    on_this_machine = int(os.environ.get("LOCAL_WORLD_SIZE", world_size()))
    num_nodes = world_size() // on_this_machine
    nodes = f" --nodes {num_nodes} --rendezvous HOST:PORT" if num_nodes > 1 else ""
    return f" --gpus {on_this_machine}{nodes}"


def is_main() -> bool:
    """Whether this is the process that logs and writes."""
    return rank() == 0


def own_device(device: torch.device) -> torch.device:
    """`cuda` as the GPU of this process among those of its machine; any other device as it is.

    Where a scheduler shows each process one GPU, that is its own.
    """
    if device.type == "cuda" and device.index is None:
        is_alone = torch.cuda.device_count() == 1
        return torch.device("cuda", 0 if is_alone else int(os.environ.get("LOCAL_RANK", 0)))
    return device


@contextmanager
def process_group(device: torch.device) -> Iterator[None]:
    """Join the other processes: NCCL between GPUs, gloo between hosts. Alone: nothing happens.

    A GPU run has both, so that ranks can agree on small things without waiting for the GPU. Inside
    another such context: nothing happens.

    Raises:
        ConfigError: WORLD_SIZE is set, but not the rest of torchrun's variables.
    """
    if not is_launched() or is_joined():
        yield
        return
    missing = [name for name in VARIABLES if name not in os.environ]
    if missing:
        raise ConfigError(
            f"WORLD_SIZE is set, so this is one of several processes, but not {', '.join(missing)}",
            hint="start with torchrun or --gpus N, or unset WORLD_SIZE",
        )
    if device.type == "cuda":
        torch.cuda.set_device(device)
    global _store
    backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
    _store, its_rank, its_world_size = next(dist.rendezvous("env://", timeout=TIMEOUT))
    dist.init_process_group(
        backend,
        store=dist.PrefixStore("group", _store),
        rank=its_rank,
        world_size=its_world_size,
        timeout=TIMEOUT,
    )
    yield
    dist.destroy_process_group()  # not after an error: it could wait for ranks that wait for us
    _store = None


def reduce_mean(tensor: Tensor) -> Tensor:
    """Mean over the ranks, on the tensor's device; every rank gets it."""
    if not is_joined():
        return tensor
    total = tensor.clone()
    dist.all_reduce(total)
    return total / world_size()


def gather(value: Value) -> list[Value]:
    """The values of all ranks, by rank; any value that pickles."""
    if not is_joined():
        return [value]
    values: list[Value | None] = [None] * world_size()
    dist.all_gather_object(values, value)
    return values  # type: ignore[return-value]


def gather_on_main(value: Value) -> list[Value]:
    """As `gather`, for what is large: ranks other than 0 get an empty list."""
    if not is_joined():
        return [value]
    values: list[Value | None] | None = [None] * world_size() if is_main() else None
    dist.gather_object(value, values)
    return values or []  # type: ignore[return-value]


def from_main(value: Value) -> Value:
    """Rank 0's value, on every rank; any value that pickles."""
    if not is_joined():
        return value
    values = [value]
    dist.broadcast_object_list(values, src=0)
    return values[0]


class Tally:
    """A count that every rank adds to and any can read, without one waiting for the other.

    All ranks make theirs in the same order.
    """

    _num_made = 0

    def __init__(self) -> None:
        self._name = f"tally/{Tally._num_made}"
        self._alone = 0
        Tally._num_made += 1

    def add(self, count: int) -> int:
        """Add; returns the sum over the ranks so far."""
        if _store is not None:
            return _store.add(self._name, count)
        self._alone += count
        return self._alone


def shared_out(items: Sequence[Value]) -> Iterator[Value]:
    """Each item on one rank alone: a rank takes the next when it is through with the one before.

    All ranks give the same items.
    """
    taken = Tally()
    while (number := taken.add(1)) <= len(items):
        yield items[number - 1]
