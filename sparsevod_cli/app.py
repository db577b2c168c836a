"""The `sparsevod` command: registers its subcommands and prints errors."""

from __future__ import annotations

import errno
import sys
import warnings
from typing import Annotated

import typer

from sparsevod_cli import console
from sparsevod_cli.commands import (
    bench,
    detect,
    doctor,
    evaluate,
    export,
    prepare_vid,
    reproduce,
    train,
    visualize_stages,
    weights,
)
from sparsevod_cli.interrupts import ctrl_c_raises
from sparsevod_cli.options import current_name
from sparsevod_core.allocator import keep_freed_memory
from sparsevod_core.errors import SparseVodError
from sparsevod_core.spinning import spin_only_on_free_cores

INTERRUPTED = 130
STDOUT_ERRORS = (errno.EBADF, errno.EDQUOT, errno.EIO, errno.ENOSPC, errno.EPIPE)

app = typer.Typer(
    name="sparsevod",
    help="Video object detection with SparseVOD: prepare data, train, evaluate, detect, inspect.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",  # reflows the paragraphs of docstrings
    context_settings={
        "help_option_names": ["-h", "--help"],
        "token_normalize_func": current_name,
    },
)


def _show_version(value: bool) -> None:
    if value:
        from sparsevod_core.version import version

        console.out(f"sparsevod {version()}")
        raise typer.Exit


@app.callback()
def _global_options(
    version: Annotated[
        bool,
        typer.Option(
            "--version",
            callback=_show_version,
            is_eager=True,
            help="Print the version and exit.",
        ),
    ] = False,
    debug: Annotated[
        bool,
        typer.Option("--debug", help="Print tracebacks of errors; works with all commands."),
    ] = False,
) -> None:
    pass


app.command("prepare-vid")(prepare_vid.prepare_vid)
app.command("train")(train.train)
app.command("eval")(evaluate.evaluate)
app.command("detect")(detect.detect)
app.command("visualize-stages")(visualize_stages.visualize_stages)
app.command("export")(export.export)
app.add_typer(bench.app, name="bench")
app.add_typer(reproduce.app, name="reproduce")
app.add_typer(weights.app, name="weights")
app.command("doctor")(doctor.doctor)


def run() -> None:
    """Run the command line and exit with its code."""
    debug = "--debug" in sys.argv
    arguments = [argument for argument in sys.argv[1:] if argument != "--debug"]
    console.prepare_streams()
    warnings.showwarning = lambda message, *_: console.show_warning(message)
    keep_freed_memory()
    spin_only_on_free_cores()
    try:
        with ctrl_c_raises():
            app(args=arguments, prog_name="sparsevod")
    except SystemExit as end:
        if end.code == INTERRUPTED:  # typer turns a KeyboardInterrupt into this
            console.error("interrupted", None)
        if not end.code and console.stdout_is_lost():
            sys.exit(1)
        raise
    except SparseVodError as error:
        if debug:
            raise
        console.error(error.message, error.hint)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        if debug:
            raise
        console.error("interrupted", None)
        sys.exit(INTERRUPTED)
    except Exception as error:
        if debug:
            raise
        if isinstance(error, OSError):
            if error.filename is None and error.errno in STDOUT_ERRORS:  # of the help texts
                console.lose_stdout(error)
            else:
                place = "" if error.filename is None else f"{error.filename}: "
                console.error(f"{place}{error.strerror or error}", None)
            sys.exit(1)
        first_line = (str(error).splitlines() or [""])[0]
        console.error(
            f"unexpected {type(error).__name__}: {first_line}",
            "run the command again with --debug and report the output, with that of "
            "`sparsevod doctor`",
        )
        sys.exit(1)
