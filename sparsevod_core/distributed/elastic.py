"""Processes on one or several machines, launched and restarted by torch's elastic agent."""

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
    error_reports,
    first_error,
    release,
    work,
)
from sparsevod_core.errors import ConfigError, SparseVodError
from sparsevod_core.reporting import Reporter

HANDSHAKE_S = 30
SHUTDOWN_S = 60  # enough for a step and a checkpoint after SIGTERM; torch's default is 30
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)  # handled by agents
THIS_MACHINE = "localhost"  # the machine's host name may not resolve

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
    timeout_s: int,
    max_restarts: int,
    reporter: Reporter,
) -> Result | None:
    """Run `function(*args, **kwargs)` in all processes.

    Args:
        function: A function that can be imported by name. It and its arguments must be picklable.
        folder: Folder for error reports and logs.
        per_machine: Number of processes on this machine.
        machines: Number of machines, whose agents meet at `endpoint`.
        endpoint: HOST:PORT, or None with one machine.
        timeout_s: How long to wait for the other machines.
        max_restarts: How often to restart all processes after one was lost.
        reporter: Receives messages about waiting and restarts.

    Returns:
        The result of rank 0, or None on a machine without rank 0.

    Raises:
        SparseVodError: The error of the first process that failed, or machines that do not meet.
        WorkerError: An unexpected exception.
    """
    _silence_torch_loggers()
    # Each attempt gets a new store. A shared one is identified by the number of restarts, which
    # machines count differently.
    os.environ["TORCH_DISABLE_SHARE_RDZV_TCP_STORE"] = "1"
    host = THIS_MACHINE if endpoint is None else parse_endpoint(endpoint)[0]
    try:
        address = address_towards(host)
        interface = interface_of(address)
    except OSError as error:
        raise ConfigError(
            f"--rendezvous {endpoint}: cannot find {host}: {error.strerror}",
            hint="give one of the machines, by a name that all of them can resolve",
        ) from error
    environment = {} if interface is None else {"GLOO_SOCKET_IFNAME": interface}
    if machines > 1:
        reporter.message(f"waiting for {machines} machines at {endpoint}")
    handler = _join_rendezvous(address, endpoint, machines, timeout_s)
    agent = _Agent(
        WorkerSpec(
            role="sparsevod",
            local_world_size=per_machine,
            entrypoint=work,
            args=(function, folder, environment, args, kwargs),
            rdzv_handler=handler,
            max_restarts=max_restarts,
            monitor_interval=0.1,
            local_addr=address,
        ),
        logs_specs=DefaultLogsSpecs(log_dir=str(folder / "elastic")),
    )
    agent.folder, agent.reporter, agent.restarts_left = folder, reporter, max_restarts
    is_stopped = False
    signal_handlers = {}
    if current_thread() is main_thread():  # only it can have any
        signal_handlers = {number: signal.getsignal(number) for number in SIGNALS}
    try:
        result = agent.run()
    except SignalException as stopped:
        is_stopped = True
        raise SystemExit(128 + stopped.sigval) from None
    except rendezvous.RendezvousTimeoutError as error:
        raise SparseVodError(
            f"not all {machines} machines reached {endpoint} within {timeout_s} s",
            hint="run the same command on each, with the same --nodes and --rendezvous",
        ) from error
    except (rendezvous.RendezvousClosedError, rendezvous.RendezvousConnectionError) as error:
        raise SparseVodError(
            f"another machine has ended the run at {endpoint}",
            hint="see the output on that machine for the reason",
        ) from error
    finally:
        for number, previous in signal_handlers.items():  # the agent does not restore them
            signal.signal(number, previous)
        if not is_stopped:
            handler.shutdown()
    if 0 not in result.return_values:
        reporter.message("done; results are on the rank-0 machine")
    return result.return_values.get(0)


class _Agent(LocalElasticAgent):
    """Agent that reports why it restarts processes, and stops on errors that would occur again."""

    folder: Path
    reporter: Reporter
    restarts_left: int

    def _start_workers(self, worker_group: WorkerGroup) -> dict[int, Any]:
        # Ctrl-C during imports would print a traceback per process; `work` unblocks it.
        resource_tracker.ensure_running()  # starting it would unblock the signal
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            return super()._start_workers(worker_group)
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})

    def _monitor_workers(self, worker_group: WorkerGroup) -> RunResult:
        reports = error_reports(self.folder)  # before the processes are checked
        result = super()._monitor_workers(worker_group)
        if result.state == WorkerState.FAILED:
            self._raise_or_restart(first_error(self.folder, result.failures))
        elif result.state == WorkerState.HEALTHY:
            for report in reports:
                release(report)
        return result

    def _raise_or_restart(self, error: BaseException) -> None:
        may_succeed = isinstance(error, (DeathError, WorkerError))
        if not may_succeed or self.restarts_left == 0:
            raise error
        self.restarts_left -= 1
        first_line = str(error).splitlines()[0]
        left = f"{self.restarts_left} restart{'s' * (self.restarts_left != 1)} left"
        self.reporter.warning(f"{first_line}; restarting all processes ({left})")

    def _shutdown(
        self, death_sig: signal.Signals = signal.SIGTERM, timeout: int = SHUTDOWN_S
    ) -> None:
        super()._shutdown(death_sig, timeout=max(timeout, SHUTDOWN_S))


def _join_rendezvous(
    address: str, endpoint: str | None, machines: int, timeout_s: int
) -> rendezvous.RendezvousHandler:
    """Return the rendezvous of this machine's agent with the others; one machine hosts it."""
    if endpoint is not None:
        host, port = parse_endpoint(endpoint)
        if address != host and not wait_for_listener(host, port, timeout_s):
            raise SparseVodError(
                f"--rendezvous {endpoint}: no answer within {timeout_s} s",
                hint=f"run the same command on {host}, and check that the port is open",
            )
    parameters = rendezvous.RendezvousParameters(
        backend="c10d",
        endpoint=endpoint or f"{THIS_MACHINE}:0",
        run_id="sparsevod",
        min_nodes=machines,
        max_nodes=machines,
        local_addr=address,
        join_timeout=timeout_s,
        read_timeout=min(timeout_s, HANDSHAKE_S),
    )
    handlers: list[rendezvous.RendezvousHandler] = []

    def connect() -> None:
        with suppress(rendezvous.RendezvousConnectionError):
            handlers.append(get_rendezvous_handler(parameters))

    # In a thread, because a program that accepts and then stays silent blocks torch's store.
    thread = Thread(target=connect, daemon=True)
    thread.start()
    thread.join(min(timeout_s, HANDSHAKE_S) + 1)
    if not handlers:
        raise SparseVodError(
            f"--rendezvous {endpoint}: the program at this port is no launcher of SparseVOD",
            hint="choose a free port, the same on all machines",
        )
    return handlers[0]


def _silence_torch_loggers() -> None:
    """Keep torch from logging errors that the caller reports; each logger has its own level."""
    for name in ("torch.distributed.elastic", "torch.multiprocessing"):
        logging.getLogger(name).addHandler(logging.NullHandler())
        logging.getLogger(name).propagate = False
