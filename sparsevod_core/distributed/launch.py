"""One process for each GPU, through torch's own elastic launcher."""

from __future__ import annotations

import json
import logging
import os
import socket
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from sparsevod_core.errors import ConfigError, SparseVodError

LAST_WORDS_S = 1  # so that the launcher sees the death of a process before those it drags along
SHUTDOWN_S = 60  # for a step and a checkpoint after SIGTERM; the launcher's own default is 30

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


class WorkerError(RuntimeError):
    """An exception that no user is to blame for; its traceback follows the first line."""


def launch(
    function: Callable[Arguments, Result],
    num_processes: int | None,
    device: str,
    /,
    *args: Arguments.args,
    **kwargs: Arguments.kwargs,
) -> Result:
    """Run `function(*args, **kwargs)` in that many processes; returns what rank 0 returned.

    Under torchrun, and for one process, the function simply runs here. Otherwise it and its
    arguments must pickle: processes are spawned.

    Args:
        function: importable by name; joins the others with `distributed.process_group`.
        num_processes: None is one, or as many as torchrun started.
        device: `auto`, `cpu` or `cuda`, checked against what is there.

    Raises:
        ConfigError: more processes than GPUs, or other than torchrun started.
        SparseVodError: what the first process to fail raised.
    """
    if "WORLD_SIZE" in os.environ:
        started = int(os.environ["WORLD_SIZE"])
        if num_processes not in (None, started):
            raise ConfigError(
                f"--gpus {num_processes}, but torchrun started {started} processes",
                hint="leave --gpus out under torchrun",
            )
        return function(*args, **kwargs)
    if num_processes is None or num_processes == 1:
        return function(*args, **kwargs)
    require_devices(num_processes, device)
    with tempfile.TemporaryDirectory(prefix="sparsevod-launch-") as folder:
        return _launch(function, num_processes, Path(folder), args, kwargs)


def require_devices(num_processes: int, device: str) -> None:
    """Check that every process gets its own GPU; on the CPU any number is fine.

    Raises:
        ConfigError: naming how many GPUs there are.
    """
    import torch

    if num_processes < 1:
        raise ConfigError(f"--gpus {num_processes}: expected at least 1")
    if device == "cpu":
        return
    if device not in ("auto", "cuda"):
        raise ConfigError(
            f"--device {device} names one GPU, --gpus {num_processes} needs as many",
            hint="leave --device out; CUDA_VISIBLE_DEVICES chooses among the GPUs",
        )
    there = torch.cuda.device_count()
    if num_processes > there:
        raise ConfigError(
            f"--gpus {num_processes}, but there are {there} usable GPUs on this machine",
            hint=f"--gpus {there or 1}, or --device cpu --gpus {num_processes} to use the CPU",
        )


def _launch(
    function: Callable[..., Result],
    num_processes: int,
    folder: Path,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> Result:
    from torch.distributed.elastic.multiprocessing.api import DefaultLogsSpecs, SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    # What goes wrong is said once, by the one who called us. A level would not do: each of these
    # loggers has its own.
    for name in ("torch.distributed.elastic", "torch.multiprocessing"):
        logging.getLogger(name).addHandler(logging.NullHandler())
        logging.getLogger(name).propagate = False
    os.environ.setdefault("TORCH_ELASTIC_SHUTDOWN_TIMEOUT", str(SHUTDOWN_S))
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=num_processes,
        run_id="sparsevod",
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        local_addr="localhost",  # the machine's own name may not resolve
        max_restarts=0,
        logs_specs=DefaultLogsSpecs(log_dir=str(folder / "elastic")),  # it would leave its own
    )
    try:
        results = elastic_launch(config, _worker)(function, folder, args, kwargs)
    except SignalException as stopped:
        raise SystemExit(128 + stopped.sigval) from None
    except ChildFailedError as failed:
        raise _first_error(folder, failed) from None
    return results[0]


def _worker(
    function: Callable[..., Result], folder: Path, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Result | None:
    """Runs in each process; what it raises is left in a file for the launcher to say."""
    num_processes = int(os.environ["WORLD_SIZE"])
    _keep_to_this_machine(num_processes)
    try:
        result = function(*args, **kwargs)
        return result if os.environ["RANK"] == "0" else None  # the others' go through a pipe too
    except KeyboardInterrupt:
        exit_code = 130
    except SystemExit as stopped:
        exit_code = int(stopped.code or 0)
    except Exception as error:
        exit_code = 1
        first_line = (str(error).splitlines() or [""])[0]
        known = isinstance(error, SparseVodError)
        rank = int(os.environ["RANK"])
        record = {
            "time": time.time(),
            "known": known,
            "message": error.message if isinstance(error, SparseVodError) else first_line,
            "hint": error.hint if isinstance(error, SparseVodError) else None,
            "exit_code": error.exit_code if isinstance(error, SparseVodError) else 1,
            "who": f"{type(error).__name__} in process {rank + 1} of {num_processes}",
            "traceback": traceback.format_exc(),
        }
        (folder / f"{rank}.json").write_text(json.dumps(record), encoding="utf-8")
        if not known:
            time.sleep(LAST_WORDS_S)
    # Not sys.exit: the process group's threads, still waiting for the others, would abort or hang.
    sys.stderr.flush()
    os._exit(exit_code)


def _keep_to_this_machine(num_processes: int) -> None:
    import torch

    if "lo" in (name for _, name in socket.if_nameindex()):
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")  # the machine's name may not resolve
    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(max(1, len(os.sched_getaffinity(0)) // num_processes))


def _first_error(folder: Path, failed: Any) -> BaseException:
    """The cause: a process that says what is wrong, before those that lost touch with it."""
    records = [json.loads(path.read_text(encoding="utf-8")) for path in folder.glob("*.json")]
    first = min(records, key=lambda record: (not record["known"], record["time"]), default=None)
    if first is not None and first["known"]:
        error = SparseVodError(first["message"], first["hint"])
        error.exit_code = first["exit_code"]
        return error
    rank, failure = min(failed.failures.items())
    if first is None or failure.exitcode < 0:
        return _silent_death(rank, failure)
    return WorkerError(f"{first['who']}: {first['message']}\n{first['traceback']}")


def _silent_death(rank: int, failure: Any) -> BaseException:
    """A process that left no word: stopped as asked, or killed."""
    if failure.exitcode in (130, 143):
        return SystemExit(failure.exitcode)
    how = f"exited with code {failure.exitcode}"
    hint = "the lines above may say why"
    if failure.exitcode < 0:
        how = f"was killed ({failure.signal_name()})"
        hint = "out of memory, most often: make the batch smaller, or data.workers"
    return SparseVodError(
        f"process {rank + 1} {how}", hint=f"{hint}; --resume goes on from what was saved"
    )
