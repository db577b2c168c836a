"""Threads spin for each other only while all of them run, and the user has not said otherwise."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from sparsevod_core.spinning import COMPANY

# Whether threads sleep at the end of loops, after some looks. Those that spin would do so for ever.
SLEEPS = """
import queue, resource, threading
import torch
from sparsevod_core.spinning import LOOKS_ALONE, _watch

looks = queue.Queue()
def take():
    while True:
        yield looks.get()
        looks.task_done()
threading.Thread(target=_watch, args=(take(),), daemon=True).start()

values = torch.zeros(2**17)
def sleeps_after(*shares):
    for share in shares:
        looks.put(share)
    looks.join()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_nvcsw
    for _ in range(50):
        values.add_(1)
    return resource.getrusage(resource.RUSAGE_SELF).ru_nvcsw - before >= 25

alone = [0.0] * LOOKS_ALONE
print(sleeps_after(*alone), sleeps_after(1.0), sleeps_after(*alone[1:]), sleeps_after(0.0))
print(sleeps_after(1.0, *alone[1:], 1.0, *alone[1:]), sleeps_after(0.0))
"""

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


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="one thread waits for nobody")
def test_threads_sleep_from_the_first_look_without_a_core_until_some_looks_with_all() -> None:
    said = run(SLEEPS, OMP_NUM_THREADS="2", GOMP_SPINCOUNT=str(10**9)).split()
    assert said == ["False", "True", "True", "False", "True", "False"]


def test_the_share_is_of_this_process_and_of_threads_that_would_run() -> None:
    idle, busy = map(float, run(SHARES).split())
    assert idle < COMPANY / 2
    assert busy > COMPANY


@pytest.mark.parametrize("script", [COMMAND, WORKER], ids=["command", "worker"])
def test_commands_and_their_processes_watch_unless_the_user_has_said_how_threads_wait(
    script: str,
) -> None:
    assert "watch cores" in run(script)
    assert "watch cores" not in run(script, OMP_WAIT_POLICY="passive")
    assert "watch cores" not in run(script, GOMP_SPINCOUNT="1000")
    assert "watch cores" not in run(script, OMP_NUM_THREADS="1")  # nobody to wait for
