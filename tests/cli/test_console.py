"""Results whatever happens to the terminal: letters that it lacks, closed and full streams."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from sparsevod_cli import console
from sparsevod_cli.progress import ConsoleReporter

NAME = "汽车"


@pytest.fixture
def files(tmp_path: Path) -> Path:
    box = {"image_id": 1, "category_id": 7, "bbox": [10, 10, 30, 30]}
    truth = {
        "images": [{"id": 1}],
        "categories": [{"id": 7, "name": NAME}],
        "annotations": [box | {"id": 1}],
    }
    (tmp_path / "truth.json").write_text(json.dumps(truth))
    (tmp_path / "found.json").write_text(json.dumps([box | {"score": 0.9}]))
    return tmp_path


def run_eval(
    folder: Path, json_out: str, redirection: str = "", **environment: str
) -> subprocess.CompletedProcess[bytes]:
    given = "--annotations truth.json --from-predictions found.json"
    return subprocess.run(
        f"{sys.executable} -m sparsevod_cli eval {given} --json {json_out} {redirection}",
        shell=True,
        cwd=folder,
        env=os.environ | environment,
        capture_output=True,
        timeout=600,
    )


@pytest.mark.parametrize("encoding", ["latin-1", "ascii"])
def test_a_class_name_that_the_terminal_lacks(files: Path, encoding: str) -> None:
    done = run_eval(files, "ap.json", PYTHONIOENCODING=encoding, LC_ALL="C")
    assert done.returncode == 0
    rows = done.stdout.decode(encoding).splitlines()
    assert rows[3].startswith("??   1.000")
    assert rows[3].index("1.000") == rows[2].index("1.000")
    assert json.loads((files / "ap.json").read_text())["per_class"][NAME]["AP"] > 0.99


@pytest.mark.parametrize(
    ("redirection", "code", "message"),
    [
        (">/dev/full", 1, b"error: stdout: cannot write: No space left on device\n"),
        (">/dev/full 2>&1", 1, b""),
        ("2>/dev/full", 0, b""),
        ("2>&-", 0, b""),
        (">&-", 1, b"error: stdout: cannot write: it is closed\n"),
        (">&- 2>&-", 1, b""),
        ("| true", 0, b""),
    ],
)
def test_lost_output_does_not_cost_the_file(
    files: Path, redirection: str, code: int, message: bytes
) -> None:
    done = run_eval(files, "ap.json", redirection)
    assert done.returncode == code
    assert done.stderr.count(b"error") == (1 if message else 0)
    assert message in done.stderr
    assert b"scoring" not in done.stdout
    assert json.loads((files / "ap.json").read_text())["AP"] > 0.99


@pytest.mark.parametrize(("redirection", "reason"), [(">/dev/full", "No space"), (">&-", "closed")])
def test_json_on_a_lost_stdout_is_an_error(files: Path, redirection: str, reason: str) -> None:
    done = run_eval(files, "-", redirection)
    assert done.returncode > 0
    assert b"stdout" in done.stderr and reason.encode() in done.stderr


def test_file_names_that_are_not_text_are_printed_after_detections_on_stdout() -> None:
    code = (
        "from sparsevod_cli.console import out, prepare_streams;"
        "from sparsevod_core.files.stdout import write_stdout;"
        "prepare_streams(); write_stdout('{}\\n'); out('clip\\udcff.mp4')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert done.stdout == b"{}\nclip\xff.mp4\n"


@pytest.mark.parametrize("redirection", [">/dev/full", ">&-"])
def test_detections_on_a_lost_stdout_are_one_error(redirection: str) -> None:
    code = (
        "from sparsevod_cli.console import prepare_streams as prepare;"
        "from sparsevod_core.files.stdout import write_stdout;"
        "prepare(); write_stdout('{}')"
    )
    words = f'{sys.executable} -c "{code}" {redirection}'
    done = subprocess.run(words, shell=True, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "stdout: cannot write: " in done.stderr and "ignored" not in done.stderr


@pytest.mark.parametrize("command", ["--help", "--version", "detect --help"])
@pytest.mark.parametrize("redirection", [">/dev/full", ">&-", "| true"])
def test_help_on_a_lost_stdout_is_at_most_one_line(command: str, redirection: str) -> None:
    words = f"{sys.executable} -m sparsevod_cli {command} {redirection}; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", words], capture_output=True, text=True, timeout=60)
    # A pipe may be closed before or after what it can hold is written.
    assert done.returncode == 1 or (redirection == "| true" and done.returncode == 0)
    assert done.stderr.count("\n") == (0 if redirection == "| true" else 1)
    assert "error: stdout: cannot write: " in done.stderr or redirection == "| true"


HOSTILE = "\x1b[31mEVIL\x1b]0;pwn\x07\u202e\x9b[/x]"


def test_messages_and_warnings_have_no_controls(capsys: pytest.CaptureFixture[str]) -> None:
    console.say(f"two\nlines of {HOSTILE}")
    console.error(f"{HOSTILE}\nerror: forged", HOSTILE)
    console.show_warning(UserWarning(f"Glyph {HOSTILE}\nmissing"))
    console.out(HOSTILE)
    printed = capsys.readouterr()
    shown = "?[31mEVIL?]0;pwn???[/x]"
    assert printed.out == f"{shown}\n"
    assert printed.err.splitlines() == [
        "two",
        f"lines of {shown}",
        f"error: {shown} error: forged",
        f"  hint: {shown}",
        f"warning: Glyph {shown} missing",
    ]


def test_a_name_cannot_write_a_line_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    ConsoleReporter().message("wrote a\nerror: forged.mp4")
    ConsoleReporter().warning("a\r\nwrote forged.mp4")
    assert capsys.readouterr().err.splitlines() == [
        "wrote a error: forged.mp4",
        "warning: a wrote forged.mp4",
    ]


def test_bars_have_no_controls_of_names() -> None:
    script = (
        "from sparsevod_cli.progress import ConsoleReporter\n"
        f"with ConsoleReporter().progress({HOSTILE!r}, 2) as bar:\n"
        f"    bar.advance(1, {HOSTILE!r})\n"
    )
    terminal, other = pty.openpty()
    process = subprocess.Popen([sys.executable, "-c", script], stderr=other)
    assert process.wait(60) == 0
    os.close(other)
    shown = b""
    with suppress(OSError):  # at the end
        while more := os.read(terminal, 4096):
            shown += more
    os.close(terminal)
    assert b"EVIL" in shown and b"[/x]" in shown
    assert not any(
        control in shown for control in (b"\x1b]0", b"\x07", b"\x1b[31mEVIL", b"\xc2\x9b")
    )
