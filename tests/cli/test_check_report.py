"""`sparsevod prepare-vid --check` from the command line: text, JSON, page and exit codes."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from matplotlib.figure import Figure

from sparsevod_cli import app as cli


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return a function that runs `sparsevod prepare-vid ARGUMENTS` and returns the exit code."""

    def call(*arguments: object) -> int:
        monkeypatch.setattr(sys, "argv", ["sparsevod", "prepare-vid", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            cli.run()
        return int(end.value.code or 0)

    return call


@pytest.fixture
def quick_page(monkeypatch: pytest.MonkeyPatch) -> None:
    """Replace the page by an empty one; drawing it takes a second."""
    monkeypatch.setattr("sparsevod_cli.check_report.dataset_page", lambda report: Figure())


@pytest.fixture
def annotations(image_set: Any, tmp_path: Path) -> Path:
    """Return a copy of the tiny dataset's JSON in another folder, which refers to its frames."""
    content = json.loads(image_set.annotations.read_text())
    content["info"] = {"root": str(image_set.annotations.parent)}
    path = tmp_path / "train.json"
    path.write_text(json.dumps(content))
    return path


def change(path: Path, section: str, position: int, **fields: Any) -> None:
    content = json.loads(path.read_text())
    content[section][position] |= fields
    path.write_text(json.dumps(content))


def test_text_page_and_json(annotations: Path, run: Any, capsys: Any) -> None:
    result = annotations.with_name("result.json")
    assert run("--check", annotations, "--json", result) == 0
    output = capsys.readouterr()
    lines = output.out.splitlines()
    assert all(len(line) < 80 or str(annotations.parent) in line for line in lines)
    assert "  videos    3, with 1 to 24 frames each (median 7)" in lines
    assert "  frames    33; 1 without a box" in lines
    assert any(line.split() == ["square", "7", "31", "31", "3", "3"] for line in lines)
    assert "0 problems, " in output.out.strip().splitlines()[-1]
    page = annotations.with_name("train.check.png")
    assert f"wrote {page}" in output.err and page.read_bytes().startswith(b"\x89PNG")
    content = json.loads(result.read_text())
    assert content["schema"] == "sparsevod.check/1" and content["overlap"] == []
    (one,) = content["sets"]
    assert one["file"] == str(annotations) and one["is_complete"]
    assert one["verdict"]["errors"] == one["verdict"]["problems"] == 0


def test_the_keys_of_the_json_are_documented(annotations: Path, run: Any, capsys: Any) -> None:
    assert run("--check", annotations, "--json", "-", "-o", annotations.with_name("p.svg")) == 0
    (one,) = json.loads(capsys.readouterr().out)["sets"]
    text = (Path(__file__).parents[2] / "docs" / "own_videos.md").read_text()
    keys = {*one, *one["findings"][0], *one["classes"][0], *one["verdict"]}
    assert not [key for key in keys if key not in text]
    assert annotations.with_name("p.svg").read_text().startswith("<?xml")


@pytest.mark.usefixtures("quick_page")
def test_exit_code_of_errors_and_of_problems_with_strict(
    annotations: Path, run: Any, capsys: Any
) -> None:
    change(annotations, "annotations", 0, bbox=[500, 500, 4, 4])
    assert run("--check", annotations) == 0
    out = capsys.readouterr().out
    assert "problem: boxes completely outside the frame: 1\n    long/" in out
    assert "square [500, 500, 504, 504]" in out and "\n1 problem, " in out
    assert run("--check", annotations, "--strict") == 1
    change(annotations, "annotations", 1, image_id=123456)
    assert run("--check", annotations) == 1
    out = capsys.readouterr().out
    assert "do not include broken entries" in out
    assert "    annotations[1] (id 1): image_id 123456" in out
    assert "1 error, 1 problem" in out and "training would stop" in out


@pytest.mark.usefixtures("quick_page")
def test_root_is_the_folder_of_the_frames(
    annotations: Path, image_set: Any, run: Any, capsys: Any, tmp_path: Path
) -> None:
    change(annotations, "images", 0, width=95)
    content = json.loads(annotations.read_text())
    annotations.write_text(json.dumps({**content, "info": {}}))
    assert run("--check", annotations) == 0
    assert "give the folder of the frames with --root" in capsys.readouterr().out
    assert run("--check", annotations, "--root", image_set.annotations.parent, "--decode") == 1
    assert "95x64" in capsys.readouterr().out
    assert run("--check", annotations, "--root", tmp_path / "nowhere") == 1
    assert "error: files missing below" in capsys.readouterr().out


@pytest.mark.usefixtures("quick_page")
def test_videos_in_two_files(annotations: Path, run: Any, capsys: Any) -> None:
    other = annotations.with_name("val.json")
    other.write_bytes(annotations.read_bytes())
    result = annotations.with_name("r.json")
    assert run("--check", annotations, "--check", other, "--json", result) == 0
    output = capsys.readouterr()
    assert "problem: videos or stills that are both in" in output.out
    assert annotations.with_name("val.check.png").is_file()
    content = json.loads(result.read_text())
    assert len(content["sets"]) == 2 and content["overlap"][0]["count"] == 4
    assert run("--check", annotations, "--check", other, "--strict") == 1


@pytest.mark.usefixtures("quick_page")
def test_without_write_access_only_the_page_is_missing(
    annotations: Path, run: Any, capsys: Any
) -> None:
    (annotations.parent / "train.check.png").mkdir()
    assert run("--check", annotations) == 0
    output = capsys.readouterr()
    assert "warning: " in output.err and "with -o" in output.err
    assert "0 problems, " in output.out
    (annotations.parent / "page.pdf").mkdir()
    assert run("--check", annotations, "-o", annotations.parent / "page.pdf") == 2


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--check", "nowhere.json"], 1, "cannot be read"),
        (["--check", "a.json", "ROOT"], 2, "--check goes with"),
        (["--check", "a.json", "--synthetic"], 2, "--check goes with"),
        (
            ["--check", "a.json", "--check", "b.json", "-o", "p.png"],
            2,
            "-o goes with a single",
        ),
        (["--check", "a.json", "-o", "p.gif"], 2, ".png, .pdf or .svg"),
        (["ROOT", "--decode"], 2, "go with --check"),
        (["ROOT", "--root", "x"], 2, "go with --check"),
    ],
)
def test_usage_errors(run: Any, capsys: Any, arguments: list[str], code: int, words: str) -> None:
    assert run(*arguments) == code
    output = capsys.readouterr()
    assert words in output.err and not output.out
