"""`sparsevod prepare-vid --degrade` as a user runs it."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from sparsevod_cli import app as cli


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Any:
    def call(*arguments: object) -> int:
        monkeypatch.setattr(sys, "argv", ["sparsevod", "prepare-vid", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            cli.run()
        return int(end.value.code or 0)

    return call


def test_a_copy_of_video_files(run: Any, video_set: Any, tmp_path: Path, capsys: Any) -> None:
    output, result = tmp_path / "out", tmp_path / "result.json"
    source = video_set.annotations
    assert run("--degrade", 0, source, "--dry-run") == 0
    planned = capsys.readouterr()
    assert "wrote" not in planned.err and "degraded frames" in planned.out
    assert run("--degrade", 0, source, "-o", output, "--json", result) == 0
    printed = capsys.readouterr()
    table = planned.out.partition("How the data were read")[0]
    assert table in printed.out
    assert f"wrote {output / 'annotations.json'}" in printed.err
    (split,) = json.loads(result.read_text())["splits"]
    images = json.loads((output / "annotations.json").read_text())["images"]
    assert split["file"] == str(output / "annotations.json")
    assert (split["num_videos"], split["num_frames"]) == (3, len(images))
    assert sum(split["degraded_frames"].values()) == sum(bool(i["degradation"]) for i in images)
    assert run("--check", output / "annotations.json", "-o", tmp_path / "page.png") == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--degrade", 1, "SET"], "a degraded copy needs a place"),
        (["--degrade", 1, "SET", "-o", "OUT", "--synthetic"], "--degrade goes with"),
        (["--degrade", 1, "SET", "-o", "OUT", "--seed", 2], "--degrade goes with"),
        (["--degrade", 1, "SET", "-o", "OUT", "--format", "coco"], "--degrade goes with"),
        (["--degrade", 1, "SET", "-o", "OUT", "--strict"], "--degrade goes with"),
        (["--degrade", 1, "SET", "-o", "OUT", "--decode"], "go with --check"),
        (["--degrade", 1, "--check", "SET"], "--check goes with"),
        (["--degrade", 1, "-o", "OUT"], "no folder given"),
        (["--degrade", -1, "SET", "-o", "OUT"], "--degrade"),
        (["SET", "-o", "OUT", "--root", "."], "go with --check"),
        (["--synthetic", "OUT", "--workers", 2], "--synthetic goes with"),
        (["--degrade", 1, "NONE", "-o", "OUT"], "NONE"),
    ],
)
def test_refused(
    arguments: list[object], message: str, run: Any, video_set: Any, tmp_path: Path,
    capsys: Any,
) -> None:  # fmt: skip
    names = {"SET": video_set.annotations, "OUT": tmp_path / "out"}
    code = run(*(names.get(str(argument), argument) for argument in arguments))
    assert code == (1 if "NONE" in arguments else 2)
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
