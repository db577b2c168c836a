"""Results on stdout."""

from __future__ import annotations

import errno
import io
import os
import sys
from contextlib import suppress
from pathlib import Path

from sparsevod_core.errors import DataError
from sparsevod_core.files.names import cannot_write


def write_stdout(text: str) -> None:
    """Write text to stdout at once, in UTF-8 as in a file, whatever the encoding of the terminal.

    Raises:
        DataError: stdout is closed, or cannot be written.
        BrokenPipeError: Its reader has ended, as `head` does.
    """
    if sys.stdout is None or sys.stdout.closed:
        raise DataError("stdout: cannot write: it is closed")
    try:
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(encoding="utf-8", errors=sys.stdout.errors, newline="")
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        with suppress(OSError), Path(os.devnull).open("wb") as nowhere:
            os.dup2(nowhere.fileno(), sys.stdout.fileno())  # Python flushes once more at its end
        if error.errno == errno.EBADF:
            raise DataError("stdout: cannot write: it is closed") from error
        raise cannot_write("stdout", error) from error
