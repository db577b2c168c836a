"""`sparsevod bench train` from the command line."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from sparsevod_cli import app as cli

if TYPE_CHECKING:
    from conftest import TinySet

SMALL = ("model.num_stages=1", "model.num_proposals=4", "train.clips_per_gpu=1")


def run(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", ["sparsevod", "bench", "train", *map(str, arguments)])
    with pytest.raises(SystemExit) as end:
        cli.run()
    return int(end.value.code or 0)


def test_a_table_and_a_json(
    image_set: TinySet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    settings = [word for setting in SMALL for word in ("--set", setting)]
    options = ("--backbone", "tiny", "--workers", 0, "--steps", 2, "--warmup", 1, "--device", "cpu")
    arguments = ("--annotations", image_set.annotations, *options, *settings)
    out = tmp_path / "train.json"
    assert run(monkeypatch, *arguments, "--precision", "bf16", "--json", out) == 0
    told = capsys.readouterr()
    result = json.loads(out.read_text())
    assert result["schema"] == "sparsevod.bench-train/1"
    assert result["settings"]["precision"] == "bf16"
    for name in ("data wait", "forward", "matching", "loss", "backward", "optimiser"):
        assert f"  {name} " in told.out
    assert f"{result['clips_per_second']:.1f} clips/s on cpu" in told.err


def test_a_precision_that_does_not_exist(
    image_set: TinySet, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    options = ("--annotations", image_set.annotations, "--backbone", "tiny", "--precision", "fp8")
    assert run(monkeypatch, *options) == 2
    assert "fp8" in capsys.readouterr().err
