"""Output of the command line: results to stdout, messages to stderr, files only when complete."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sparsevod_core.files.check import check_outputs as check
from sparsevod_core.files.kinds import Kind, json_with
from sparsevod_core.files.stdout import write_stdout
from sparsevod_core.files.unfinished import write_text


def say(text: str) -> None:
    """Print a message to stderr."""
    print(text, file=sys.stderr, flush=True)


def is_first_process() -> bool:
    """Return True in the process of rank 0 of torchrun or srun; others print nothing.

    Reads the environment, so that nothing heavy is imported.
    """
    slurm_rank = os.environ.get("SLURM_PROCID", "0") if "SLURM_STEP_ID" in os.environ else "0"
    return os.environ.get("RANK", slurm_rank) == "0"


def error(message: str, hint: str | None) -> None:
    """Print an error and its hint to stderr."""
    say(f"error: {message}")
    if hint:
        say(f"  hint: {hint}")


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table to stdout; the first column is text, the others are numbers.

    Cells are never truncated, however narrow the terminal. Logs and files get no color.
    """
    from rich.cells import cell_len
    from rich.console import Console
    from rich.text import Text

    lines = [[_printable(cell) for cell in line] for line in (columns, *rows)]
    widths = [max(map(cell_len, column)) for column in zip(*lines, strict=True)]
    output = Console(highlight=False, soft_wrap=True)
    output.print(Text(_printable(title), "bold"))
    for number, (name, *numbers) in enumerate(lines):
        cells = [text.rjust(width) for text, width in zip(numbers, widths[1:], strict=True)]
        line = "  ".join([name + " " * (widths[0] - cell_len(name)), *cells]).rstrip()
        output.print(Text(line, "dim" if number == 0 else ""))
    output.print()


def _printable(text: str) -> str:
    """Replace control characters, as class names may come from untrusted files."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)


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
        ConfigError, DataError: See `sparsevod_core.files.check`; or stdout is closed.
    """
    outputs = list(others)
    if json_out is not None and str(json_out) != "-":
        outputs.append((json_out, json_with(schema)))
    check(outputs, {path: what for what, path in inputs.items() if path is not None})
    write_stdout("")


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write a result, which has a `schema`, as JSON; `-` is stdout."""
    text = json.dumps(value, indent=2, allow_nan=False) + "\n"
    if str(path) == "-":
        write_stdout(text)
    else:
        write_text(path, text, json_with(value["schema"]))
