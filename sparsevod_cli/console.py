"""Output of the command line: results to stdout, messages to stderr, files only when complete.

A command writes its files first: what happens to the terminal must not cost a result. Letters that
the terminal's encoding lacks are replaced. A closed or full stdout or stderr loses only its text.
"""

from __future__ import annotations

import codecs
import errno
import io
import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from sparsevod_core.errors import ConfigError
from sparsevod_core.files.check import check_outputs as check
from sparsevod_core.files.kinds import Kind, json_with
from sparsevod_core.files.unfinished import write_text
from sparsevod_core.printable import printable

_lost = False
_was_closed = False


def prepare_streams() -> None:
    """Make stdout replace what its encoding lacks, as stderr does, instead of raising an error.

    Closed standard streams are opened on nothing. Otherwise, the next file opened would take their
    place, and get what libraries print.
    """
    global _was_closed
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            # Takes the lowest free number. Writing fails if it is stdout: what is lost is noted.
            os.open(os.devnull, os.O_RDONLY if descriptor == 1 else os.O_RDWR)
    codecs.register_error("sparsevod", _replaced)
    if sys.stdout is None:
        _was_closed = True
        sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    if sys.stderr is None:  # `print` would write messages to stdout
        sys.stderr = open(2, "w", encoding="utf-8", errors="replace", closefd=False)  # noqa: SIM115
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="sparsevod")


def _replaced(error: UnicodeError) -> tuple[str | bytes, int]:
    """Return the original bytes of a file name that is not text, and escapes of other letters."""
    for handler in ("surrogateescape", "backslashreplace"):
        with suppress(UnicodeError):
            return codecs.lookup_error(handler)(error)
    raise error


def stdout_is_lost() -> bool:
    """Return True if some text could not be written to stdout."""
    return _lost


@contextmanager
def _writing_to_stdout() -> Iterator[None]:
    """Report an error of stdout, and discard what is written to it from then on."""
    try:
        yield
        sys.stdout.flush()
    except OSError as failure:
        lose_stdout(failure)


def lose_stdout(failure: OSError) -> None:
    """Report that stdout cannot be written, and discard what is written to it from then on."""
    global _lost
    _lost = True
    if failure.errno == errno.EBADF:
        error("stdout: cannot write: it is closed", None)
    elif not isinstance(failure, BrokenPipeError):  # the reader has seen enough, as `head`
        error(f"stdout: cannot write: {failure.strerror}", None)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)  # Python flushes once more at its end
    os.close(nowhere)


def out(text: object = "") -> None:
    """Print a line of the result to stdout."""
    with _writing_to_stdout():
        print(_safe(str(text)))


def say(text: str) -> None:
    """Print a message to stderr."""
    with suppress(OSError):
        print(_safe(text), file=sys.stderr, flush=True)


def is_first_process() -> bool:
    """Return True in the process of rank 0 of torchrun or srun; others print nothing.

    Reads the environment, so that nothing heavy is imported.
    """
    slurm_rank = os.environ.get("SLURM_PROCID", "0") if "SLURM_STEP_ID" in os.environ else "0"
    return os.environ.get("RANK", slurm_rank) == "0"


def error(message: str, hint: str | None) -> None:
    """Print an error and its hint to stderr."""
    say(f"error: {one_line(message)}")
    if hint:
        say(f"  hint: {one_line(hint)}")


def _safe(text: str) -> str:
    """Return text without controls of the terminal; names in it may come from untrusted files.

    Bytes of file names that are not text stay as they are: see `_replaced`.
    """
    if text.isprintable():
        return text
    return "".join(
        letter if letter == "\n" or "\udc80" <= letter <= "\udcff" else printable(letter)
        for letter in text
    )


def one_line(text: str) -> str:
    """Replace line breaks, with which a name could write lines of its own."""
    return " ".join(text.splitlines())


def show_warning(message: Warning | str) -> None:
    """Print a warning of a library on one line."""
    say(f"warning: {one_line(str(message))}")


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table to stdout; the first column is text, the others are numbers.

    Cells are never truncated, however narrow the terminal. Logs and files get no color.
    """
    from rich.cells import cell_len
    from rich.console import Console
    from rich.text import Text

    lines = [[_printable(cell) for cell in line] for line in (columns, *rows)]
    widths = [max(map(cell_len, column)) for column in zip(*lines, strict=True)]
    with _writing_to_stdout():
        output = Console(highlight=False, soft_wrap=True)
        output.print(Text(_printable(title), "bold"))
        for number, (name, *numbers) in enumerate(lines):
            cells = [text.rjust(width) for text, width in zip(numbers, widths[1:], strict=True)]
            line = "  ".join([name + " " * (widths[0] - cell_len(name)), *cells]).rstrip()
            output.print(Text(line, "dim" if number == 0 else ""))
        output.print()


def lines(title: str, texts: Sequence[str]) -> None:
    """Print a title and lines of text to stdout, in the style of `table`."""
    from rich.console import Console
    from rich.text import Text

    with _writing_to_stdout():
        output = Console(highlight=False, soft_wrap=True)
        output.print(Text(_printable(title), "bold"))
        for text in texts:
            output.print(Text(_printable(text)))
        output.print()


def _printable(text: str) -> str:
    """Replace controls, and letters that stdout cannot show, so that columns stay aligned."""
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    return printable(text).encode(encoding, "replace").decode(encoding)


def check_outputs(
    json_out: Path | None,
    schema: str,
    inputs: Mapping[str, Path | None],
    others: Sequence[tuple[Path, Kind | None]] = (),
) -> None:
    """Check that outputs can be written and no other file is lost, before the work begins.

    Args:
        json_out: Value of `--json`.
        schema: Its `schema`.
        inputs: Files and folders that the command reads, by what they are, e.g. `the checkpoint`.
        others: Other outputs, see `sparsevod_core.files.check`.

    Raises:
        ConfigError, DataError: See `sparsevod_core.files.check`; or JSON is for a closed stdout.
    """
    outputs = list(others)
    if str(json_out) == "-":
        if _was_closed:
            raise ConfigError("--json -: stdout is closed", hint="name a file")
    elif json_out is not None:
        outputs.append((json_out, json_with(schema)))
    check(outputs, {path: what for what, path in inputs.items() if path is not None})


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write a result, which has a `schema`, as JSON; `-` is stdout."""
    text = json.dumps(value, indent=2, allow_nan=False) + "\n"
    if str(path) == "-":
        with _writing_to_stdout():
            print(text, end="")
    else:
        write_text(path, text, json_with(value["schema"]))
