"""Threads spin for each other only while all of them run, and the user has not said otherwise."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from sparsevod_core import spinning
from sparsevod_core.spinning import BUSY_SHARE, CHECKS_UNTIL_FREE

# The share of the time without a core, of a process that shares one: idle, then busy.
SHARES = """
import os, subprocess, sys, threading
from sparsevod_core.spinning import _shares

os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as other:
    shares = _shares()
    print(next(shares))
    look = threading.Thread(target=lambda: print(next(shares)))
    look.start()
    while look.is_alive():
        pass
    other.kill()
"""

COMMAND = """
import sys, threading
from sparsevod_cli.main import main
sys.argv = ["sparsevod", "--version"]
try:
    main()
finally:
    print([thread.name for thread in threading.enumerate()])
"""

WORKER = """
import threading
from pathlib import Path
from sparsevod_core.distributed.worker import work
names = lambda: [thread.name for thread in threading.enumerate()]
print(work(names, Path(), {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_WORLD_SIZE": "1"}, (), {}))
"""


def run(script: str, **environment: str) -> str:
    clean = {name: text for name, text in os.environ.items() if "OMP_" not in name}
    return subprocess.run(
        [sys.executable, "-c", script],
        env={**clean, **environment},
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    ).stdout


def test_threads_sleep_from_the_first_look_without_a_core_until_some_looks_with_all(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What that does to libgomp's threads takes free cores: benchmarks/company.py measures it."""
    done: list[str] = []
    monkeypatch.setattr(spinning, "_sleep_after_loops", lambda: not done.append("sleep"))
    monkeypatch.setattr(spinning, "_spin_after_loops", lambda: done.append("spin"))
    alone, beside = BUSY_SHARE / 2, 2 * BUSY_SHARE
    spinning._watch([alone, alone])
    assert done == []
    spinning._watch([alone, beside, beside, *[alone] * (CHECKS_UNTIL_FREE - 1), beside])
    assert done == ["sleep"]
    spinning._watch([beside, *[alone] * (CHECKS_UNTIL_FREE + 3), beside])
    assert done == ["sleep", "sleep", "spin", "sleep"]


def test_openmp_that_is_not_there_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    monkeypatch.setattr(spinning, "_sleep_after_loops", lambda: bool(asked.append(1)))
    spinning._watch([2 * BUSY_SHARE] * 3)
    assert len(asked) == 3


def test_the_share_is_of_this_process_and_of_threads_that_would_run() -> None:
    idle, busy = map(float, run(SHARES).split())
    assert idle < BUSY_SHARE / 2
    assert busy > BUSY_SHARE


@pytest.mark.parametrize("script", [COMMAND, WORKER], ids=["command", "worker"])
def test_commands_and_their_processes_watch_unless_the_user_has_said_how_threads_wait(
    script: str,
) -> None:
    assert "watch cores" in run(script)
    assert "watch cores" not in run(script, OMP_WAIT_POLICY="passive")
    assert "watch cores" not in run(script, GOMP_SPINCOUNT="1000")
    assert "watch cores" not in run(script, OMP_NUM_THREADS="1")  # nobody to wait for
