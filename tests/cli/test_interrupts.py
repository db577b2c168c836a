"""Ctrl-C at any moment: one line and exit code 130, in real processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

# Modules and destructors of libraries, which swallow an exception that arrives in them.
SWALLOWS = """
import os, signal, time
try:
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(0.1)
except BaseException as error:
    raise RecursionError from error
"""
DESTRUCTOR = """
import os, signal
class Thing:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGINT)
        for _ in range(1000):
            pass
"""
COMMAND = """
import sys, time
from sparsevod_cli import app

@app.app.command()
def wait() -> None:
    {body}
    time.sleep(10)
    print("went on")

sys.argv = ["sparsevod", "wait"]
app.run()
"""


@pytest.mark.parametrize(
    ("module", "body"),
    [(SWALLOWS, "import library"), (DESTRUCTOR, "import library; library.Thing()")],
)
def test_an_interrupt_is_not_swallowed(module: str, body: str, tmp_path: Path) -> None:
    (tmp_path / "library.py").write_text(module)
    (tmp_path / "command.py").write_text(COMMAND.format(body=body))
    done = subprocess.run(
        [sys.executable, tmp_path / "command.py"], capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "error: interrupted\n")


@pytest.mark.parametrize("after_s", [0.0, 0.1, 0.3])
def test_an_interrupt_while_modules_load(after_s: float, tmp_path: Path) -> None:
    command = [sys.executable, "-X", "importtime", "-m", "sparsevod_cli"]
    process = subprocess.Popen(
        [*command, "prepare-vid", "--synthetic", tmp_path / "set"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    for line in process.stderr:  # of each module; this is the first one of the project
        if "sparsevod_cli.console" in line:
            break
    time.sleep(after_s)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    said = [line for line in errors.splitlines() if not line.startswith("import time:")]
    assert (process.returncode, said[-1]) == (130, "error: interrupted")
    assert len(said) == 1 or (len(said) == 2 and said[0].startswith("rendering"))


def test_an_ignored_interrupt_stays_ignored() -> None:
    """As in background jobs of a script."""
    process = subprocess.Popen(
        [sys.executable, "-m", "sparsevod_cli", "--version"],
        stdout=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN),
    )
    for _ in range(20):
        if process.poll() is None:
            os.kill(process.pid, signal.SIGINT)
            time.sleep(0.02)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 0 and out.startswith(b"sparsevod ")
