"""`sparsevod bench`."""

from __future__ import annotations

import typer

app = typer.Typer(help="Frames per second, part by part.", invoke_without_command=True)


@app.callback()
def bench() -> None:
    """To come."""
