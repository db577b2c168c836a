"""The command line: help, version, typing errors, error messages."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import typer

from sparsevod_cli import app as cli
from sparsevod_core.errors import CheckpointError, ConfigError

HEAVY = {"torch", "torchvision", "cv2", "av", "numpy", "scipy", "matplotlib", "pycocotools", "yaml"}

# Prints the modules that a new interpreter has imported after running the command line.
PROBE = """
import json, sys
from sparsevod_cli.main import main
try:
    main()
except SystemExit:
    pass
finally:
    print(json.dumps(sorted(sys.modules)), file=sys.stderr)
"""


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "sparsevod_cli", *arguments],
        capture_output=True,
        text=True,
        timeout=600,
        env={"COLUMNS": "100", "PATH": "", "NO_COLOR": "1"},
        stdin=subprocess.DEVNULL,
    )


def commands(group: Any, path: tuple[str, ...] = ()) -> dict[tuple[str, ...], Any]:
    """Return every command and subcommand by the words after `sparsevod`."""
    found = {path: group}
    for name, command in getattr(group, "commands", {}).items():
        found |= commands(command, (*path, name))
    return found


COMMANDS = commands(typer.main.get_command(cli.app))


def test_the_commands_are_there() -> None:
    expected = "prepare-vid train eval detect visualize-stages export bench doctor"
    assert {(name,) for name in expected.split()} <= COMMANDS.keys()


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_help_imports_nothing_heavy(path: tuple[str, ...]) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROBE, *path, "-h"], capture_output=True, text=True, timeout=600
    )
    assert f"Usage: {' '.join(('sparsevod', *path))} " in done.stdout
    assert not HEAVY & set(json.loads(done.stderr.splitlines()[-1]))


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_every_option_is_explained(path: tuple[str, ...]) -> None:
    assert not [item.name for item in COMMANDS[path].params if not getattr(item, "help", "")]


def test_long_help_equals_short_help() -> None:
    assert run("--help").stdout == run("-h").stdout != ""


def test_version_is_the_packages() -> None:
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    done = run("--version")
    assert (
        done.stdout == f"sparsevod {version('sparsevod')}\n" == f"sparsevod {project['version']}\n"
    )
    assert done.returncode == 0


def test_no_command_shows_what_there_is() -> None:
    done = run()
    assert "prepare-vid" in done.stdout + done.stderr


def test_unknown_command_is_wrong_use() -> None:
    done = run("detct")
    assert done.returncode == 2
    assert "detct" in done.stderr
    assert "Traceback" not in done.stderr


def test_unknown_option_is_wrong_use() -> None:
    done = run("doctor", "--jsn", "x")
    assert done.returncode == 2
    assert "--json" in done.stderr  # click's "did you mean"


def test_completion_script_is_offered() -> None:
    assert "--install-completion" in run("--help").stdout


# --- errors, with a command that fails ----------------------------------------------------------


def fail_with(monkeypatch: pytest.MonkeyPatch, error: BaseException, *arguments: str) -> None:
    def app(args: list[str], prog_name: str) -> None:
        assert "--debug" not in args  # removed at any position
        raise error

    monkeypatch.setattr(cli, "app", app)
    monkeypatch.setattr(sys, "argv", ["sparsevod", *arguments])
    cli.run()


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (CheckpointError("best.pth: truncated", hint="take last.pth"), 1),
        (ConfigError("train.epochs=0: expected at least 1"), 2),
        (KeyboardInterrupt(), 130),
        (ZeroDivisionError("division by zero\nsecond line"), 1),
    ],
    ids=["failure", "wrong use", "interrupted", "our own bug"],
)
def test_an_error_is_one_line_and_its_exit_code(
    error: BaseException,
    code: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as stopped:
        fail_with(monkeypatch, error)
    assert stopped.value.code == code
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("error: ")
    assert "Traceback" not in printed.err
    lines = printed.err.splitlines()
    assert all(line.startswith("  hint: ") for line in lines[1:])
    if isinstance(error, CheckpointError):
        assert lines == ["error: best.pth: truncated", "  hint: take last.pth"]


@pytest.mark.parametrize("arguments", [("--debug", "train"), ("train", "--debug")])
def test_debug_shows_where_an_error_came_from(
    arguments: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(CheckpointError):
        fail_with(monkeypatch, CheckpointError("best.pth: truncated"), *arguments)


def test_a_wrong_setting_from_end_to_end() -> None:
    done = run("train", "--backbone", "tiny", "--set", "train.epoch=3")
    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        "error: unknown setting 'train.epoch'",
        "  hint: did you mean train.epochs?",
    ]
    assert "Traceback" in run("train", "--set", "train.epoch=3", "--debug").stderr
