"""Processes on one machine or several, started and restarted by torch's own elastic agent."""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Callable
from contextlib import suppress
from multiprocessing import resource_tracker
from pathlib import Path
from threading import Thread, current_thread, main_thread
from typing import Any, TypeVar

import torch.distributed.elastic.rendezvous as rendezvous
from torch.distributed.elastic.agent.server.api import (
    RunResult,
    WorkerGroup,
    WorkerSpec,
    WorkerState,
)
from torch.distributed.elastic.agent.server.local_elastic_agent import LocalElasticAgent
from torch.distributed.elastic.multiprocessing.api import DefaultLogsSpecs, SignalException
from torch.distributed.elastic.rendezvous.registry import get_rendezvous_handler

from sparsevod_core.distributed.network import (
    address_towards,
    interface_of,
    parse_endpoint,
    wait_for_listener,
)
from sparsevod_core.distributed.worker import (
    DeathError,
    WorkerError,
    first_error,
    let_go,
    words_in,
    work,
)
from sparsevod_core.errors import ConfigError, SparseVodError
from sparsevod_core.reporting import Reporter

HANDSHAKE_S = 30
SHUTDOWN_S = 60  # for a step and a checkpoint after SIGTERM; torch's own default is 30
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)  # that agents handle
THIS_MACHINE = "localhost"  # the machine's own name may not resolve

Result = TypeVar("Result")


def run_elastic(
    function: Callable[..., Result],
    folder: Path,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    *,
    per_machine: int,
    machines: int,
    endpoint: str | None,
    patience_s: int,
    max_restarts: int,
    reporter: Reporter,
) -> Result | None:
    """Run `function(*args, **kwargs)` in all processes; None on a machine without rank 0.

    Args:
        function: importable by name; it and its arguments pickle.
        folder: for what processes leave behind.
        per_machine: processes on this machine.
        machines: that many agents meet at `endpoint`, HOST:PORT.
        patience_s: how long to wait for them.
        max_restarts: how often all processes start again after one was lost.
        reporter: told of the wait and of restarts.

    Raises:
        SparseVodError: what the first process to fail raised; machines that do not meet.
        WorkerError: an exception that no user is to blame for.
    """
    _be_quiet()
    # A store of its own for each attempt: machines count their restarts differently, and a shared
    # store is told apart by that count.
    os.environ["TORCH_DISABLE_SHARE_RDZV_TCP_STORE"] = "1"
    host = THIS_MACHINE if endpoint is None else parse_endpoint(endpoint)[0]
    try:
        address = address_towards(host)
        interface = interface_of(address)
    except OSError as error:
        raise ConfigError(
            f"--rendezvous {endpoint}: {host} is not to be found: {error.strerror}",
            hint="name one of the machines, as all of them know it",
        ) from error
    environment = {} if interface is None else {"GLOO_SOCKET_IFNAME": interface}
    if machines > 1:
        reporter.message(f"waiting for {machines} machines at {endpoint}")
    meeting = _meeting_place(address, endpoint, machines, patience_s)
    agent = _Agent(
        WorkerSpec(
            role="sparsevod",
            local_world_size=per_machine,
            entrypoint=work,
            args=(function, folder, environment, args, kwargs),
            rdzv_handler=meeting,
            max_restarts=max_restarts,
            monitor_interval=0.1,
            local_addr=address,
        ),
        logs_specs=DefaultLogsSpecs(log_dir=str(folder / "elastic")),
    )
    agent.folder, agent.reporter, agent.restarts_left = folder, reporter, max_restarts
    is_stopped = False
    handlers = {}
    if current_thread() is main_thread():  # only it has any
        handlers = {number: signal.getsignal(number) for number in SIGNALS}
    try:
        result = agent.run()
    except SignalException as stopped:
        is_stopped = True
        raise SystemExit(128 + stopped.sigval) from None
    except rendezvous.RendezvousTimeoutError as error:
        raise SparseVodError(
            f"not all of {machines} machines came to {endpoint} within {patience_s} s",
            hint="each runs the same command, with the same --nodes and --rendezvous",
        ) from error
    except (rendezvous.RendezvousClosedError, rendezvous.RendezvousConnectionError) as error:
        raise SparseVodError(
            f"another machine of the run at {endpoint} has ended it",
            hint="what it printed says why",
        ) from error
    finally:
        for number, handler in handlers.items():  # the agent leaves its own
            signal.signal(number, handler)
        if not is_stopped:
            meeting.shutdown()
    if 0 not in result.return_values:
        reporter.message("done; the machine of process 1 has the result")
    return result.return_values.get(0)


class _Agent(LocalElasticAgent):
    """Says why processes start again, and does not repeat what would fail again."""

    folder: Path
    reporter: Reporter
    restarts_left: int

    def _start_workers(self, worker_group: WorkerGroup) -> dict[int, Any]:
        # Ctrl-C while they import would give as many tracebacks; `work` listens again.
        resource_tracker.ensure_running()  # where it starts, it ends the blocking
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            return super()._start_workers(worker_group)
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})

    def _monitor_workers(self, worker_group: WorkerGroup) -> RunResult:
        words = words_in(self.folder)  # before the look at the processes
        result = super()._monitor_workers(worker_group)
        if result.state == WorkerState.FAILED:
            self._judge(first_error(self.folder, result.failures))
        elif result.state == WorkerState.HEALTHY:
            for one in words:
                let_go(one)
        return result

    def _judge(self, error: BaseException) -> None:
        is_worth_another = isinstance(error, (DeathError, WorkerError))
        if not is_worth_another or self.restarts_left == 0:
            raise error
        self.restarts_left -= 1
        what = str(error).splitlines()[0]
        left = f"{self.restarts_left} more restart{'s' * (self.restarts_left != 1)} allowed"
        self.reporter.warning(f"{what}; all processes start again ({left})")

    def _shutdown(
        self, death_sig: signal.Signals = signal.SIGTERM, timeout: int = SHUTDOWN_S
    ) -> None:
        super()._shutdown(death_sig, timeout=max(timeout, SHUTDOWN_S))


def _meeting_place(
    address: str, endpoint: str | None, machines: int, patience_s: int
) -> rendezvous.RendezvousHandler:
    """Where this machine's agent meets the others'; one of them hosts it."""
    if endpoint is not None:
        host, port = parse_endpoint(endpoint)
        if address != host and not wait_for_listener(host, port, patience_s):
            raise SparseVodError(
                f"--rendezvous {endpoint}: nobody answered within {patience_s} s",
                hint=f"start the same command on {host}; is the port open to this machine?",
            )
    parameters = rendezvous.RendezvousParameters(
        backend="c10d",
        endpoint=endpoint or f"{THIS_MACHINE}:0",
        run_id="sparsevod",
        min_nodes=machines,
        max_nodes=machines,
        local_addr=address,
        join_timeout=patience_s,
        read_timeout=min(patience_s, HANDSHAKE_S),
    )
    met: list[rendezvous.RendezvousHandler] = []

    def meet() -> None:
        with suppress(rendezvous.RendezvousConnectionError):
            met.append(get_rendezvous_handler(parameters))

    # In a thread: a program that accepts and then says nothing would hold torch's store for ever.
    thread = Thread(target=meet, daemon=True)
    thread.start()
    thread.join(min(patience_s, HANDSHAKE_S) + 1)
    if not met:
        raise SparseVodError(
            f"--rendezvous {endpoint}: what answers there is no launcher of SparseVOD",
            hint="another program uses the port: choose another one, the same on all machines",
        )
    return met[0]


def _be_quiet() -> None:
    """What goes wrong is said once, by the one who called us; each of these has its own level."""
    for name in ("torch.distributed.elastic", "torch.multiprocessing"):
        logging.getLogger(name).addHandler(logging.NullHandler())
        logging.getLogger(name).propagate = False
