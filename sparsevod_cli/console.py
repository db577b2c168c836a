"""What goes to the user: data to stdout, talk to stderr, JSON to files when complete."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any


def say(text: str) -> None:
    """One line of talk on stderr."""
    print(text, file=sys.stderr, flush=True)


def error(message: str, hint: str | None) -> None:
    """What went wrong and what to do about it, on stderr."""
    say(f"error: {message}")
    if hint:
        say(f"  hint: {hint}")


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A table on stdout; the first column is text, the others are numbers."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    rendered = Table(title=escape(title), title_justify="left")
    for position, column in enumerate(columns):
        rendered.add_column(column, justify="left" if position == 0 else "right")
    for row in rows:
        rendered.add_row(*map(escape, row))  # a class may be called [x]
    Console().print(rendered)


def write_json(path: Path, value: Any) -> None:
    """Write `value` as JSON under its final name only when complete; `-` is stdout."""
    text = json.dumps(value, indent=2, allow_nan=False) + "\n"
    if str(path) == "-":
        sys.stdout.write(text)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)
