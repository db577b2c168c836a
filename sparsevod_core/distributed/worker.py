"""Main function of a launched process, and how its errors reach the launcher."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from sparsevod_core.allocator import keep_freed_memory
from sparsevod_core.errors import SparseVodError
from sparsevod_core.spinning import spin_only_on_free_cores

LINGER_S = 1  # time for other launchers to see the death of a process that makes this one fail too
STOPPED = (130, 143)  # exit codes after Ctrl-C and SIGTERM

Result = TypeVar("Result")


class WorkerError(RuntimeError):
    """An unexpected exception in a process; its traceback follows the first line."""


class DeathError(SparseVodError):
    """A process that ended without an error report, mostly because it was killed.

    Another attempt may succeed.
    """


def work(
    function: Callable[..., Result],
    folder: Path,
    environment: Mapping[str, str],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> Result | None:
    """Run `function` in a launched process, and report its exception in a file for the launcher.

    Returns:
        The result in rank 0 and None in the others, because results go through a pipe.
    """
    for name, value in environment.items():
        os.environ.setdefault(name, value)
    keep_freed_memory()
    spin_only_on_free_cores()
    _share_the_cores()
    rank, num_processes = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    launcher = os.getppid()
    threading.Thread(target=_end_with_launcher, daemon=True).start()
    try:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})  # see _Agent._start_workers
        result = function(*args, **kwargs)
        return result if rank == 0 else None
    except KeyboardInterrupt:
        exit_code = 130
    except SystemExit as stopped:
        exit_code = int(stopped.code or 0)
    except Exception as error:
        exit_code = 1
        first_line = (str(error).splitlines() or [""])[0]
        is_expected = isinstance(error, SparseVodError)
        report = {
            "time": time.time(),
            "is_expected": is_expected,
            "message": error.message if isinstance(error, SparseVodError) else first_line,
            "hint": error.hint if isinstance(error, SparseVodError) else None,
            "exit_code": error.exit_code if isinstance(error, SparseVodError) else 1,
            "source": f"{type(error).__name__} in process {rank + 1} of {num_processes}",
            "traceback": traceback.format_exc(),
        }
        # Renamed when complete: the launcher may read it, or end this process, at any moment.
        unfinished = folder / f"{rank}.unfinished"
        unfinished.write_text(json.dumps(report), encoding="utf-8")
        unfinished.rename(folder / f"{rank}.json")
        if not is_expected:
            # The cause may be the death of another process, which the launcher must see first. It
            # releases this process once it has checked all of them after this report.
            time.sleep(LINGER_S)
            while not _release_file(folder, rank).exists() and os.getppid() == launcher:
                time.sleep(0.02)
    # Not sys.exit: threads of the process group that wait for other ranks would abort or hang.
    sys.stderr.flush()
    os._exit(exit_code)


def _end_with_launcher() -> None:
    """End this process if its launcher is killed, before or after: nothing else could stop it."""
    launcher = multiprocessing.parent_process()
    if launcher is not None:
        launcher.join()
        os._exit(1)


def error_reports(folder: Path) -> list[Path]:
    """Return the error reports of processes."""
    return list(folder.glob("*.json"))


def release(report: Path) -> None:
    """Let the process that wrote this error report end."""
    _release_file(report.parent, int(report.stem)).touch()


def _release_file(folder: Path, rank: int) -> Path:
    return folder / f"{rank}.released"


def first_error(folder: Path, failures: Mapping[int, Any]) -> BaseException:
    """Return the cause of a failure: expected errors first, then the earliest report.

    Args:
        folder: Folder of the error reports, which are deleted.
        failures: elastic's `ProcessFailure` by rank.
    """
    reports = []
    for path in error_reports(folder):
        reports.append(json.loads(path.read_text(encoding="utf-8")))
        path.unlink()
        _release_file(folder, int(path.stem)).unlink(missing_ok=True)
    first = min(
        reports, key=lambda report: (not report["is_expected"], report["time"]), default=None
    )
    if first is not None and first["is_expected"]:
        error = SparseVodError(first["message"], first["hint"])
        error.exit_code = first["exit_code"]
        return error
    rank, failure = min(failures.items())
    if first is None or failure.exitcode < 0:
        return _death_without_report(rank, failure)
    return WorkerError(f"{first['source']}: {first['message']}\n{first['traceback']}")


def _share_the_cores() -> None:
    import torch

    if "OMP_NUM_THREADS" not in os.environ:
        cores = len(os.sched_getaffinity(0))
        torch.set_num_threads(max(1, cores // int(os.environ["LOCAL_WORLD_SIZE"])))


def _death_without_report(rank: int, failure: Any) -> BaseException:
    if failure.exitcode in STOPPED:
        return SystemExit(failure.exitcode)
    how = f"exited with code {failure.exitcode}"
    hint = "see the lines above for the reason"
    if failure.exitcode < 0:
        how = f"was killed ({failure.signal_name()})"
        hint = "the usual reason is a lack of memory: use smaller batches or fewer data.workers"
    return DeathError(
        f"process {rank + 1} {how}", hint=f"{hint}; use --resume to continue from the last save"
    )
