"""`sparsevod doctor`: text, JSON and exit code."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from importlib.metadata import version
from pathlib import Path

import pytest
from typer.testing import CliRunner

from sparsevod_cli.app import app
from sparsevod_core import machine

RUNNER = CliRunner()


def test_text_and_json_say_the_same(tmp_path: Path) -> None:
    done = RUNNER.invoke(app, ["doctor", "--json", str(tmp_path / "machine.json")])
    written = json.loads((tmp_path / "machine.json").read_text())
    assert done.exit_code == bool(written["problems"])
    assert written.pop("schema") == "sparsevod.doctor/1"
    assert written.keys() == machine.Machine.__dataclass_fields__.keys()
    assert written["versions"]["sparsevod"] == version("sparsevod")
    for package, number in written["versions"].items():
        assert f"{package} {number}" in " ".join(done.output.split())
    assert written["cpu"]["model"] in done.output


def test_json_alone_on_stdout() -> None:
    assert json.loads(RUNNER.invoke(app, ["doctor", "--json", "-"]).stdout)["platform"]


def test_gpus_are_listed_and_problems_end_in_exit_code_1(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = machine.Gpu(name="A100", memory_gib=79.2, free_gib=70.0, compute_capability="8.0")
    found = replace(machine.describe_machine(), gpus=(gpu,), problems=("GPU 0 does not answer",))
    monkeypatch.setattr(machine, "describe_machine", lambda: found)
    done = RUNNER.invoke(app, ["doctor"])
    assert done.exit_code == 1
    assert "A100, 79.2 GiB (70.0 free), compute capability 8.0" in done.stdout
    assert "problem: GPU 0 does not answer" in done.stderr
    assert json.loads(json.dumps(asdict(found)))["gpus"][0]["name"] == "A100"
