"""One process that a launcher started, and how its end is told."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from sparsevod_core.allocator import keep_freed_memory
from sparsevod_core.errors import SparseVodError
from sparsevod_core.spinning import spin_only_when_alone

LAST_WORDS_S = 1  # for other machines' launchers to see the death of a process that it drags along
STOPPED = (130, 143)  # exit codes after Ctrl-C and SIGTERM

Result = TypeVar("Result")


class WorkerError(RuntimeError):
    """An exception that no user is to blame for; its traceback follows the first line."""


class DeathError(SparseVodError):
    """A process that left no word, killed most often: it may do better in a second attempt."""


def work(
    function: Callable[..., Result],
    folder: Path,
    environment: Mapping[str, str],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> Result | None:
    """Run in each process; what it raises is left in a file for the launcher to say.

    Returns rank 0's result, None in the others: results go through a pipe.
    """
    for name, value in environment.items():
        os.environ.setdefault(name, value)
    keep_freed_memory()
    spin_only_when_alone()
    _share_the_cores()
    rank, num_processes = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    launcher = os.getppid()
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
        known = isinstance(error, SparseVodError)
        record = {
            "time": time.time(),
            "known": known,
            "message": error.message if isinstance(error, SparseVodError) else first_line,
            "hint": error.hint if isinstance(error, SparseVodError) else None,
            "exit_code": error.exit_code if isinstance(error, SparseVodError) else 1,
            "who": f"{type(error).__name__} in process {rank + 1} of {num_processes}",
            "traceback": traceback.format_exc(),
        }
        # Whole or not at all: the launcher may look, or end this process, at any moment.
        unfinished = folder / f"{rank}.unfinished"
        unfinished.write_text(json.dumps(record), encoding="utf-8")
        unfinished.rename(folder / f"{rank}.json")
        if not known:
            # The death of another process may drag this one along, and the launcher is to see that
            # first: it lets this one go when it has looked at all of them since these words.
            time.sleep(LAST_WORDS_S)
            while not _heard(folder, rank).exists() and os.getppid() == launcher:
                time.sleep(0.02)
    # Not sys.exit: the process group's threads, still waiting for the others, would abort or hang.
    sys.stderr.flush()
    os._exit(exit_code)


def words_in(folder: Path) -> list[Path]:
    """Files in which processes have left word."""
    return list(folder.glob("*.json"))


def let_go(words: Path) -> None:
    """Let the process that left these words end."""
    _heard(words.parent, int(words.stem)).touch()


def _heard(folder: Path, rank: int) -> Path:
    return folder / f"{rank}.heard"


def first_error(folder: Path, failures: Mapping[int, Any]) -> BaseException:
    """The cause: a process that says what is wrong, before those that lost touch with it.

    Args:
        folder: where processes left word; emptied.
        failures: elastic's `ProcessFailure` by rank.
    """
    records = []
    for path in words_in(folder):
        records.append(json.loads(path.read_text(encoding="utf-8")))
        path.unlink()
        _heard(folder, int(path.stem)).unlink(missing_ok=True)
    first = min(records, key=lambda record: (not record["known"], record["time"]), default=None)
    if first is not None and first["known"]:
        error = SparseVodError(first["message"], first["hint"])
        error.exit_code = first["exit_code"]
        return error
    rank, failure = min(failures.items())
    if first is None or failure.exitcode < 0:
        return _silent_death(rank, failure)
    return WorkerError(f"{first['who']}: {first['message']}\n{first['traceback']}")


def _share_the_cores() -> None:
    import torch

    if "OMP_NUM_THREADS" not in os.environ:
        cores = len(os.sched_getaffinity(0))
        torch.set_num_threads(max(1, cores // int(os.environ["LOCAL_WORLD_SIZE"])))


def _silent_death(rank: int, failure: Any) -> BaseException:
    """A process that left no word: stopped as asked, or killed."""
    if failure.exitcode in STOPPED:
        return SystemExit(failure.exitcode)
    how = f"exited with code {failure.exitcode}"
    hint = "the lines above may say why"
    if failure.exitcode < 0:
        how = f"was killed ({failure.signal_name()})"
        hint = "out of memory, most often: make the batch smaller, or data.workers"
    return DeathError(
        f"process {rank + 1} {how}", hint=f"{hint}; --resume goes on from what was saved"
    )
