"""Launching of processes, and communication between them."""

from sparsevod_core.distributed.processes import (
    Tally,
    from_main,
    gather,
    gather_on_main,
    is_joined,
    is_launched,
    is_main,
    launch_options,
    num_restarts,
    own_device,
    process_group,
    rank,
    reduce_mean,
    shared_out,
    world_size,
)

__all__ = [
    "Tally",
    "from_main",
    "gather",
    "gather_on_main",
    "is_joined",
    "is_launched",
    "is_main",
    "launch_options",
    "num_restarts",
    "own_device",
    "process_group",
    "rank",
    "reduce_mean",
    "shared_out",
    "world_size",
]
