"""`sparsevod` commands run as child processes."""

from __future__ import annotations

import shlex
import signal
import subprocess
import sys
from types import FrameType

from sparsevod_cli import console


def run_command(*words: str) -> None:
    """Run `sparsevod` with these words, and show the command and its output on stderr.

    Ctrl-C and SIGTERM reach the child, which gets the time to save its state.

    Raises:
        CommandError: The command failed.
        KeyboardInterrupt: Ctrl-C ended it.
        SystemExit: SIGTERM ended it.
    """
    from sparsevod_core.reproduce.experiment import CommandError

    console.say(f"$ sparsevod {shlex.join(words)}")
    process: subprocess.Popen[bytes] | None = None
    received: list[int] = []

    def receive(number: int, frame: FrameType | None) -> None:
        received.append(number)
        if process and number == signal.SIGTERM:  # the terminal itself sends Ctrl-C to the child
            process.send_signal(number)

    signals = (signal.SIGINT, signal.SIGTERM)
    previous = {number: signal.signal(number, receive) for number in signals}
    try:
        command = [sys.executable, "-m", "sparsevod_cli", *words]
        process = subprocess.Popen(command, stdout=sys.stderr)
        if signal.SIGTERM in received:  # before there was a child to pass it on to
            process.send_signal(signal.SIGTERM)
        code = process.wait()
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
    if received or code in (128 + signal.SIGINT, -signal.SIGINT, -signal.SIGTERM):
        console.say("stopped; run the same command again to resume")
        if received and received[0] == signal.SIGTERM:
            sys.exit(128 + signal.SIGTERM)
        raise KeyboardInterrupt
    if code:
        raise CommandError(f"sparsevod {words[0]} failed with exit code {code}")
