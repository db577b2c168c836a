"""Entry point of the `sparsevod` command, which answers Ctrl-C before anything else is imported."""

import os
import signal


def main() -> None:
    """Run the command line. Exit codes: 0 success, 1 failure, 2 usage error, 130 interrupted."""
    # If Ctrl-C is ignored, as in background jobs of a script, it stays ignored.
    answers = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if answers:
        signal.signal(signal.SIGINT, _exit_at_once)
    try:
        from sparsevod_cli.app import run

        run()
    finally:
        if answers:  # everything is done, but Python takes a moment to end
            signal.signal(signal.SIGINT, signal.SIG_IGN)


def _exit_at_once(*_: object) -> None:
    # An exception could be swallowed or wrapped by whatever is just being imported.
    os.write(2, b"error: interrupted\n")
    os._exit(130)
