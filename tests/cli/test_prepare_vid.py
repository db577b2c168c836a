"""`sparsevod prepare-vid` as a user runs it: counts, files, exit codes, one-line errors."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import typer

from sparsevod_cli import app as cli
from sparsevod_core.prepare.synthetic.render import SyntheticConfig

SMALL = [
    "--videos",
    "1",
    "--val-videos",
    "1",
    "--frames",
    "4",
    "--val-frames",
    "4",
    "--frame-size",
    "64x96",
    "--seed",
    "3",
]


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("prepare_vid") / "set"
    with pytest.MonkeyPatch.context() as patch:
        assert call(patch, "--synthetic", folder, *SMALL) == 0
    return folder


def call(patch: pytest.MonkeyPatch, *arguments: object) -> int:
    patch.setattr(sys, "argv", ["sparsevod", "prepare-vid", *map(str, arguments)])
    with pytest.raises(SystemExit) as end:
        cli.run()
    return int(end.value.code or 0)


def table(text: str) -> list[list[str]]:
    """Return the words of each line."""
    return [line.split() for line in text.splitlines()]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return a function that runs `sparsevod prepare-vid ARGUMENTS` and returns the exit code."""
    return lambda *arguments: call(monkeypatch, *arguments)


def test_a_rendered_set_is_there_as_asked(rendered: Path) -> None:
    train = json.loads((rendered / "train.json").read_text())
    assert len(train["images"]) == 4 and train["annotations"]
    assert {(image["width"], image["height"]) for image in train["images"]} == {(96, 64)}
    assert train["info"]["synthetic"]["seed"] == 3
    assert all((rendered / image["file_name"]).is_file() for image in train["images"])


def test_the_help_states_the_defaults_of_a_rendered_set() -> None:
    # The command names them in its texts, because --help does not import the core.
    command = typer.main.get_command(cli.app).commands["prepare-vid"]  # type: ignore[attr-defined]
    texts = {option.name: option.help for option in command.params}
    config = SyntheticConfig()
    stated = {
        "videos": config.train_videos,
        "val_videos": config.val_videos,
        "frames": config.frames,
        "val_frames": config.val_frames,
        "frame_size": f"{config.height}x{config.width}",
    }
    for name, default in stated.items():
        assert texts[name].endswith(f"; default: {default}.")


def test_rendering_again_keeps_the_set(rendered: Path, run: Any, capsys: Any) -> None:
    before = (rendered / "train.json").read_bytes()
    assert run("--synthetic", "-o", rendered, *SMALL) == 0
    assert "already rendered" in capsys.readouterr().err
    assert (rendered / "train.json").read_bytes() == before
    assert run("--synthetic", rendered, "--frames", 9) == 1
    assert "contains another rendered set" in capsys.readouterr().err


def test_the_old_size_option_still_works_with_a_notice(
    rendered: Path, run: Any, capsys: Any
) -> None:
    assert run("--synthetic", rendered, *SMALL[:8], "--size", "96x64", "--seed", 3) == 0
    printed = capsys.readouterr().err
    assert "--size is deprecated, use --frame-size 64x96" in printed
    assert "already rendered" in printed


def test_converting_prints_counts_and_writes_both_files(
    rendered: Path, run: Any, tmp_path: Path, capsys: Any
) -> None:
    assert run(rendered, "-o", tmp_path / "out", "--json", tmp_path / "result.json") == 0
    printed = capsys.readouterr()
    assert ["videos", "1", "1", "0"] in table(printed.out)
    assert ["frames", "4", "4", "0"] in table(printed.out) and "triangle" in printed.out
    assert f"wrote {tmp_path / 'out' / 'val.json'}" in printed.err
    assert "no DET images" in printed.err
    result = json.loads((tmp_path / "result.json").read_text())
    train, val = result["splits"]
    assert (train["split"], train["num_videos"], train["expected_frames"]) == ("train", 1, 4)
    assert val["file"] == str(tmp_path / "out" / "val.json")
    assert val["num_boxes"] == sum(val["boxes_per_class"].values()) > 0
    assert val["problems"] == val["missing"] == []
    written = json.loads((tmp_path / "out" / "val.json").read_text())
    rendered_val = json.loads((rendered / "val.json").read_text())
    assert written["annotations"] == rendered_val["annotations"]
    assert (tmp_path / "out" / written["info"]["root"]).samefile(rendered)


def test_json_on_stdout_is_all_of_stdout(rendered: Path, run: Any, capsys: Any) -> None:
    assert run(rendered, "--dry-run", "--splits", "val", "--json", "-") == 0
    (val,) = json.loads(capsys.readouterr().out)["splits"]
    assert val["file"] is None and val["num_frames"] == 4


def test_the_real_sample(shared_dir: Path, run: Any, tmp_path: Path, capsys: Any) -> None:
    assert run(shared_dir / "data" / "ilsvrc", "-o", tmp_path / "val.json") == 0
    printed = capsys.readouterr()
    rows = table(printed.out)
    assert ["videos", "1", "555", "-554"] in rows and ["frames", "144", "176126", "-175982"] in rows
    assert ["boxes", "1008", "273505", "-272497"] in rows
    assert ["airplane", "1008", "26387", "-25379"] in rows
    assert ["zebra", "0", "6910", "-6910"] in rows
    assert "warning: val: 1 of 555 videos, 144 of 176126 frames" in printed.err
    assert printed.err.count("listed, but missing: val/") == 10
    assert "544 more lines" in printed.err
    problems = tmp_path / "val.problems.txt"
    assert f"missing or broken in val: {problems}" in printed.err
    assert len(problems.read_text().splitlines()) == 554
    assert {path.name for path in tmp_path.iterdir()} == {"val.json", problems.name}


def test_strict_stops_with_one_line_and_no_file(
    shared_dir: Path, run: Any, tmp_path: Path, capsys: Any
) -> None:
    assert run(shared_dir / "data" / "ilsvrc", "-o", tmp_path, "--strict") == 1
    error, hint = capsys.readouterr().err.strip().splitlines()[-2:]
    assert error.startswith("error: ") and "val/ILSVRC2015_val_00000000 is listed" in error
    assert hint.startswith("  hint: without --strict")
    assert not list(tmp_path.iterdir())


def test_problems_are_listed_up_to_a_number(
    rendered: Path, run: Any, tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for path in rendered.rglob("Data/VID/val/*/*.JPEG"):
        link = tmp_path / "tree" / path.relative_to(rendered)
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(path)
    for path in sorted(rendered.rglob("Annotations/VID/val/*/*.xml")):
        copy = tmp_path / "tree" / path.relative_to(rendered)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_text(path.read_text().replace("s00000", "n00000"))
    monkeypatch.setattr("sparsevod_cli.prepare_report.SHOWN_PROBLEMS", 2)
    assert run(tmp_path / "tree", "-o", tmp_path / "out") == 0
    lines = capsys.readouterr().err.splitlines()
    assert sum("unknown class 'n0000000" in line for line in lines) == 2
    assert any("more lines like these" in line for line in lines)
    named = (tmp_path / "out" / "val.problems.txt").read_text().splitlines()
    assert len(named) > 2 and all("unknown class 'n0000000" in line for line in named)


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        ([], 2, "no folder given"),
        (["nowhere"], 1, "no such file or folder"),
        (["--synthetic"], 2, "no folder given"),
        (["--synthetic", "a", "-o", "b"], 2, "goes with one folder"),
        (["--synthetic", "a", "--size", "big"], 2, "expected WIDTHxHEIGHT"),
        (["--synthetic", "a", "--frame-size", "big"], 2, "expected HEIGHTxWIDTH"),
        (["--synthetic", "a", "--frame-size", "64x96", "--size", "96x64"], 2, "only --frame-size"),
        (["--synthetic", "a", "--size", "8x8"], 2, "64x64 to 4096x4096"),
        (["--synthetic", "a", "--videos", 0], 2, "at least one training"),
        (["a", "--frames", 3], 2, "need --synthetic"),
    ],
)
def test_wrong_use_is_one_line(
    run: Any,
    capsys: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[object],
    code: int,
    words: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(*arguments) == code
    assert words in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_an_unknown_split_is_wrong_use(rendered: Path, run: Any, capsys: Any) -> None:
    assert run(rendered, "--splits", "val, test") == 2
    assert "unknown split 'test'" in capsys.readouterr().err
