"""`sparsevod bench data` from the command line."""

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
    monkeypatch.setattr(sys, "argv", ["sparsevod", "bench", "data", *map(str, arguments)])
    with pytest.raises(SystemExit) as end:
        cli.run()
    return int(end.value.code or 0)


def test_a_table_and_a_json(
    image_set: TinySet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    settings = [word for setting in SMALL for word in ("--set", setting)]
    options = ("--backbone", "tiny", "--workers", 0, "--steps", 2, "--warmup", 1, "--device", "cpu")
    arguments = ("--annotations", image_set.annotations, *options, *settings)
    assert run(monkeypatch, *arguments, "--json", tmp_path / "data.json") == 0
    told = capsys.readouterr()
    result = json.loads((tmp_path / "data.json").read_text())
    assert result["schema"] == "sparsevod.bench-data/1"
    assert (result["clips"], result["settings"]["workers"]) == (18, 0)
    assert "  waiting for data" in told.out
    assert (
        f"{result['training']['data_wait_share']:.1%} of a step is spent waiting for data"
        in told.err
    )
    assert run(monkeypatch, *arguments, "--json", "-") == 0
    assert json.loads(capsys.readouterr().out)["clips"] == 18


def test_annotations_that_are_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    assert run(monkeypatch, "--annotations", tmp_path / "none.json") == 1
    assert "none.json" in capsys.readouterr().err
