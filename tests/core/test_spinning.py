"""OpenMP threads spin only while all of them have a core, unless the user sets a policy."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from sparsevod_core import spinning
from sparsevod_core.spinning import BUSY_SHARE, CHECKS_UNTIL_FREE

# Share of the time without a core, for a process that shares its core: idle, then busy.
SHARES = """
import os, subprocess, sys, threading
from sparsevod_core.spinning import _shares

os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as other:
    shares = _shares()
    print(next(shares))
    check = threading.Thread(target=lambda: print(next(shares)))
    check.start()
    while check.is_alive():
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


def test_threads_sleep_after_one_busy_check_until_several_free_ones(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The effect on libgomp needs free cores to measure: see benchmarks/company.py."""
    calls: list[str] = []
    monkeypatch.setattr(spinning, "_sleep_after_loops", lambda: not calls.append("sleep"))
    monkeypatch.setattr(spinning, "_spin_after_loops", lambda: calls.append("spin"))
    free, busy = BUSY_SHARE / 2, 2 * BUSY_SHARE
    spinning._watch([free, free])
    assert calls == []
    spinning._watch([free, busy, busy, *[free] * (CHECKS_UNTIL_FREE - 1), busy])
    assert calls == ["sleep"]
    spinning._watch([busy, *[free] * (CHECKS_UNTIL_FREE + 3), busy])
    assert calls == ["sleep", "sleep", "spin", "sleep"]


def test_openmp_is_tried_again_while_it_is_not_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    attempts: list[int] = []
    monkeypatch.setattr(spinning, "_sleep_after_loops", lambda: bool(attempts.append(1)))
    spinning._watch([2 * BUSY_SHARE] * 3)
    assert len(attempts) == 3


def test_the_share_counts_ready_threads_of_this_process_only() -> None:
    idle, busy = map(float, run(SHARES).split())
    assert idle < BUSY_SHARE / 2
    assert busy > BUSY_SHARE


@pytest.mark.parametrize("script", [COMMAND, WORKER], ids=["command", "worker"])
def test_commands_and_workers_watch_the_cores_unless_the_user_sets_a_policy(
    script: str,
) -> None:
    assert "watch cores" in run(script)
    assert "watch cores" not in run(script, OMP_WAIT_POLICY="passive")
    assert "watch cores" not in run(script, GOMP_SPINCOUNT="1000")
    assert "watch cores" not in run(script, OMP_NUM_THREADS="1")  # no other thread to wait for
