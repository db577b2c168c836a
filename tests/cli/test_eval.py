"""`sparsevod eval` on predictions and on a model: tables, JSON and exit codes."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import typer

from sparsevod_cli import app as cli
from sparsevod_core.checkpoint import Checkpoint, save_checkpoint
from sparsevod_core.config import load_config
from sparsevod_core.model.build import build_detector
from sparsevod_core.structures import Category

TRUTH: dict[str, Any] = {
    "images": [{"id": 1}, {"id": 2}],
    "categories": [{"id": 5, "name": "car"}, {"id": 9, "name": "dog"}],
    "annotations": [
        {"id": 0, "image_id": 1, "category_id": 5, "bbox": [0, 0, 10, 10]},
        {"id": 1, "image_id": 2, "category_id": 5, "bbox": [5, 5, 10, 10]},
    ],
}
FOUND: list[dict[str, Any]] = [
    {"image_id": 1, "category_id": 5, "bbox": [0, 0, 10, 10], "score": 0.9}
]

KINDS = ("png", "pdf")


@pytest.fixture
def files(tmp_path: Path) -> Path:
    (tmp_path / "truth.json").write_text(json.dumps(TRUTH))
    (tmp_path / "found.json").write_text(json.dumps(FOUND))
    return tmp_path


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Function that runs `sparsevod eval ARGUMENTS` in this process and returns the exit code."""

    def run_eval(*arguments: object) -> int:
        monkeypatch.setattr(sys, "argv", ["sparsevod", "eval", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            cli.run()
        return int(end.value.code or 0)

    return run_eval


def test_predictions_give_a_table_and_a_json(files: Path, run: Any, capsys: Any) -> None:
    arguments = ("--annotations", files / "truth.json", "--from-predictions", files / "found.json")
    assert run(*arguments, "--json", files / "new" / "ap.json") == 0
    printed = capsys.readouterr()
    half = pytest.approx(51 / 101)  # precision 1 up to recall 0.5
    result = json.loads((files / "new" / "ap.json").read_text())
    assert (result["AP"], result["AP50"], result["AP75"]) == (half, half, half)
    assert result["per_class"] == {
        "car": {"AP": half, "AP50": half, "AP75": half, "num_boxes": 2},
        "dog": {"AP": None, "AP50": None, "AP75": None, "num_boxes": 0},
    }
    assert result["annotations"] == str(files / "truth.json")
    assert result["predictions"] == str(files / "found.json")
    assert (result["checkpoint"], result["settings"]) == (None, None)
    rows = [line.split() for line in printed.out.splitlines()]
    assert ["AP", "AP50", "AP75", "boxes", "correct", "wrong", "missed", "false"] in rows
    assert ["all", "0.505", "0.505", "0.505", "2", "1", "0", "1", "0"] in rows
    assert ["dog", "-", "-", "-", "0", "0", "0", "0", "0"] in rows
    scoring, mean, speed = printed.err.splitlines()
    assert mean == "AP is the mean over 1 of 2 classes; without boxes: dog"
    assert result["classes_without_boxes"] == ["dog"]
    assert scoring == "scoring 1 detections in 2 frames"
    assert speed.startswith("no AP by speed: 2 of 2 boxes")


@pytest.mark.parametrize("boxes", [[], [box | {"iscrowd": 1} for box in TRUTH["annotations"]]])
def test_annotations_without_boxes_have_no_ap(
    files: Path, run: Any, capsys: Any, boxes: list[Any]
) -> None:
    (files / "truth.json").write_text(json.dumps(TRUTH | {"annotations": boxes}))
    several = [f"--from-predictions={name}={files / 'found.json'}" for name in "ab"]
    outputs = ("--json", files / "ap.json", "--figures", files / "figures")
    assert run("--annotations", files / "truth.json", *several, *outputs) == 0
    result = json.loads((files / "ap.json").read_text())["results"]["a"]
    assert [result[key] for key in ("AP", "AP50", "AR1")] == [None] * 3
    assert result["classes_without_boxes"] == ["car", "dog"]
    printed = capsys.readouterr()
    assert ["a", "-", "-", "-", "-", "-", "-", "-", "1"] in map(str.split, printed.out.splitlines())
    assert "AP is undefined: there are no boxes to find" in printed.err


def test_only_json_on_stdout(files: Path, run: Any, capsys: Any) -> None:
    arguments = ("--annotations", files / "truth.json", "--from-predictions", files / "found.json")
    assert run(*arguments, "--json", "-") == 0
    assert json.loads(capsys.readouterr().out)["schema"] == "sparsevod.eval/1"


def test_predictions_need_no_torch(files: Path) -> None:
    probe = (
        "import sys; from sparsevod_cli.main import main\n"
        "try: main()\n"
        "except SystemExit as end: print(end.code, 'torch' in sys.modules, file=sys.stderr)"
    )
    inputs = ["--annotations", files / "truth.json", "--from-predictions", files / "found.json"]
    done = subprocess.run(
        [sys.executable, "-c", probe, "eval", *map(str, inputs)],
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.stderr.splitlines()[-1] == "0 False"


@pytest.mark.parametrize(
    "arguments",
    [
        ["--from-predictions", "found.json"],
        ["model.pth", "--annotations", "truth.json", "--from-predictions", "found.json"],
        ["--annotations", "truth.json", "--from-predictions", "found.json", "--no-clip"],
        ["--annotations", "truth.json", "--from-predictions", "found.json", "--num-supports", "0"],
        ["--annotations", "truth.json", "--from-predictions", "found.json", "--root", "frames"],
    ],
    ids=" ".join,
)
def test_usage_errors_show_a_command_that_works(
    arguments: list[str], run: Any, capsys: Any
) -> None:
    assert run(*arguments) == 2
    printed = capsys.readouterr().err
    assert printed.startswith("error: ")
    assert "hint: use: sparsevod eval " in printed


def test_resuming_needs_a_file(run: Any, capsys: Any) -> None:
    assert run("model.pth", "--resume") == 2
    assert "--save-predictions FILE --resume" in capsys.readouterr().err


def test_an_invalid_results_file_exits_1_and_writes_no_json(
    files: Path, run: Any, capsys: Any
) -> None:
    (files / "found.json").write_text(json.dumps([FOUND[0] | {"image_id": 77}]))
    arguments = ("--annotations", files / "truth.json", "--from-predictions", files / "found.json")
    assert run(*arguments, "--json", files / "ap.json") == 1
    assert "found.json: entry 0: image_id 77 is not among the images" in capsys.readouterr().err
    assert not (files / "ap.json").exists()


@pytest.fixture
def two_files(files: Path) -> tuple[Path, Path]:
    """One of two cars; both cars and a false dog."""
    both = [FOUND[0], FOUND[0] | {"image_id": 2, "bbox": [5, 5, 10, 10], "score": 0.8}]
    dog = {"image_id": 2, "category_id": 9, "bbox": [50, 50, 9, 9], "score": 0.5}
    (files / "better.json").write_text(json.dumps([*both, dog]))
    return files / "found.json", files / "better.json"


def test_several_files_are_compared(files: Path, two_files: Any, run: Any, capsys: Any) -> None:
    one, other = two_files
    several = ("--from-predictions", one, "--from-predictions", f"ours={other}")
    arguments = ("--annotations", files / "truth.json", *several, "--json", files / "ap.json")
    assert run(*arguments, "--figures", files / "figures") == 0
    result = json.loads((files / "ap.json").read_text())
    assert result["schema"] == "sparsevod.evals/1"
    assert list(result["results"]) == ["found", "ours"]
    assert result["results"]["ours"]["AP50"] == pytest.approx(1)
    assert result["results"]["ours"]["confusion"]["false_alarms"] == 1
    assert result["results"]["found"]["schema"] == "sparsevod.eval/1"
    printed = capsys.readouterr()
    rows = [line.split() for line in printed.out.splitlines()]
    assert ["0.50", "0.505", "1.000"] in rows  # AP at IoU
    assert ["car", "0.505", "1.000"] in rows
    assert ["ours", "2", "0", "0", "1"] in rows  # correct, wrong class, missed, false alarms
    assert max(map(len, printed.out.splitlines())) <= 80
    names = {path.name for path in (files / "figures").iterdir()}
    assert names == {
        *(
            f"{name}.{kind}"
            for name in ("ap_by_iou", "precision_recall")
            for kind in ("png", "pdf")
        ),
        "found",
        "ours",
    }
    assert (files / "figures" / "ours" / "confusion.png").exists()
    assert printed.err.count("no images") == 2  # the annotations name no files


@pytest.mark.parametrize(
    ("second", "reason"),
    [
        ("{folder}/other/found.json", "found is already {folder}/found.json"),
        ("../x={folder}/better.json", "not a valid name"),
        ("={folder}/better.json", "not a valid name"),
    ],
)
def test_names_of_files_are_unique_and_valid(
    files: Path, run: Any, capsys: Any, second: str, reason: str
) -> None:
    several = (files / "found.json", second.format(folder=files))
    given = [word for file in several for word in ("--from-predictions", file)]
    assert run("--annotations", files / "truth.json", *given) == 2
    printed = capsys.readouterr().err
    assert reason.format(folder=files) in printed
    assert "hint: use: --from-predictions ours=a.json" in printed


def test_columns_are_aligned_for_any_class_names(files: Path, run: Any, capsys: Any) -> None:
    names = ["汽车", "[red]\x1b[31m"]
    categories = [
        old | {"name": name} for old, name in zip(TRUTH["categories"], names, strict=True)
    ]
    (files / "truth.json").write_text(json.dumps(TRUTH | {"categories": categories}))
    given = ("--annotations", files / "truth.json", "--from-predictions", files / "found.json")
    assert run(*given) == 0
    lines = capsys.readouterr().out.splitlines()
    every, car, dog = lines[2:5]
    assert dog.startswith("[red]?[31m  ")
    # Two characters of double width.
    assert car.index("0.505") == every.index("0.505") - 2


def test_the_help_lists_every_key_of_the_json(files: Path, run: Any) -> None:
    def keys(value: Any) -> set[str]:
        if isinstance(value, list):
            return set().union(*map(keys, value))
        if not isinstance(value, dict):
            return set()
        return set(value).union(*map(keys, value.values()))

    given = ("--annotations", files / "truth.json", "--from-predictions", files / "found.json")
    assert run(*given, "--json", files / "ap.json") == 0
    result = json.loads((files / "ap.json").read_text())
    found = keys(result) - {"car", "dog"} - result["AP_by_iou"].keys()
    explained = typer.main.get_command(cli.app).commands["eval"].help or ""  # type: ignore[attr-defined]
    assert [key for key in found if not re.search(rf"\b{key}\b", explained)] == []


def test_an_output_folder_that_is_a_file(files: Path, run: Any, capsys: Any) -> None:
    given = ("--annotations", files / "truth.json", "--from-predictions", files / "found.json")
    assert run(*given, "--figures", files / "found.json") == 1
    assert f"{files / 'found.json'} is not a folder" in capsys.readouterr().err


def test_a_file_whose_name_has_an_equals_sign(files: Path, run: Any) -> None:
    (files / "lr=1.json").write_text(json.dumps(FOUND))
    predictions = ("--from-predictions", files / "lr=1.json")
    assert run("--annotations", files / "truth.json", *predictions) == 0


def test_tables_in_a_log_are_plain_lines_of_80_characters(
    video_set: Any, run: Any, tmp_path: Path, capsys: Any
) -> None:
    """With tracks, so there is AP by speed; perfect except for one box."""
    content = json.loads(video_set.annotations.read_text())
    found = [
        {key: box[key] for key in ("image_id", "category_id", "bbox")} | {"score": 0.9}
        for box in content["annotations"][1:]
    ]
    (tmp_path / "found.json").write_text(json.dumps(found))
    predictions = ("--from-predictions", tmp_path / "found.json", "--json", tmp_path / "ap.json")
    assert run("--annotations", video_set.annotations, *predictions) == 0
    lines = capsys.readouterr().out.splitlines()
    assert all(line.isascii() and len(line) <= 80 for line in lines)
    rows = [line.split() for line in lines]
    result = json.loads((tmp_path / "ap.json").read_text())
    for speed in ("fast", "medium", "slow"):
        coco, fgfa = result["motion"]["coco"][speed], result["motion"]["fgfa"][speed]
        aps = [coco["AP"], coco["AP50"], coco["AP75"], fgfa]
        shown = ["-" if ap is None else f"{ap:.3f}" for ap in aps]
        assert [speed, *shown, str(coco["num_boxes"])] in rows
    (one,) = (video for video in result["worst_videos"])
    assert one["video"] == "long" and one["missed"] == 1
    assert ["long", f"{one['AP50']:.3f}", "46", "0", "1", "0"] in rows


# --- with a model of random weights ------------------------------------------------------------


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """Detector of squares, which are in the tiny sets, and ships, which are not."""
    small = ["model.num_stages=1", "model.num_proposals=6", "model.num_classes=2"]
    sizes = ["data.short_side=64", "data.long_side=96", "data.val_annotations=val.json"]
    torch.manual_seed(3)
    config = load_config("tiny", overrides=[*small, *sizes])
    categories = (Category(1, "ship"), Category(2, "square"))
    weights = build_detector(config.model).state_dict()
    save_checkpoint(tmp_path / "model.pth", Checkpoint(config, categories, weights))
    return tmp_path / "model.pth"


def test_a_model_on_image_folders(
    checkpoint: Path, image_set: Any, run: Any, tmp_path: Path, capsys: Any
) -> None:
    where = ("--annotations", image_set.annotations, "--root", image_set.annotations.parent)
    options = ("--num-supports", 2, "--support-mode", "causal", "--batch", 4, "--no-clip")
    saved, first, again = (tmp_path / name for name in ("found.json", "first.json", "again.json"))
    arguments = (checkpoint, *where, *options, "--save-predictions", saved, "--json", first)
    assert run(*arguments) == 0
    printed = capsys.readouterr()
    assert "skipping classes" in printed.err and "ship" in printed.err
    assert "score 0: bar" in printed.err
    result = json.loads(first.read_text())
    assert result["checkpoint"] == str(checkpoint)
    assert result["num_frames"] == 33
    assert result["num_detections"] > 0
    assert result["settings"] == {
        "seed": 0,
        "supports": 2,
        "global_supports": 10,
        "support": "causal",
        "window_stride": 1,
        "precision": "fp32",
        "fast": True,
        "compile": "auto",
        "batch": 4,
        "short_side": 64,
        "long_side": 96,
        "resize": "antialias",
        "pad_multiple": 32,
        "clip": False,
    }
    assert run(*where[:2], "--from-predictions", saved, "--json", again) == 0
    rescored = json.loads(again.read_text())
    for key in ("AP", "AP50", "AP75", "AR100", "per_class", "num_frames", "num_detections"):
        assert rescored[key] == result[key]


def test_a_model_on_video_files(checkpoint: Path, video_set: Any, run: Any, tmp_path: Path) -> None:
    """Without `info.root`, file names start from the annotations' folder."""
    arguments = (checkpoint, "--annotations", video_set.annotations, "--limit-videos", 2)
    assert run(*arguments, "--set", "data.short_side=32", "--json", tmp_path / "ap.json") == 0
    result = json.loads((tmp_path / "ap.json").read_text())
    assert result["num_frames"] == 24 + 7
    assert result["settings"]["short_side"] == 32


def test_the_validation_set_recorded_in_the_checkpoint(
    checkpoint: Path,
    image_set: Any,
    run: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: Any,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(checkpoint) == 1
    printed = capsys.readouterr().err
    assert "val.json, not found here" in printed
    assert "sparsevod prepare-vid" in printed
    (tmp_path / "val.json").write_text(image_set.annotations.read_text())
    arguments = ("--root", image_set.annotations.parent, "--limit-videos", 1)
    assert run(checkpoint, *arguments, "--json", tmp_path / "ap.json") == 0
    assert json.loads((tmp_path / "ap.json").read_text())["annotations"] == "val.json"


def test_a_missing_frame_is_named(
    checkpoint: Path, image_set: Any, run: Any, tmp_path: Path, capsys: Any
) -> None:
    arguments = (checkpoint, "--annotations", image_set.annotations, "--root", tmp_path)
    assert run(*arguments, "--save-predictions", tmp_path / "found.json") == 1
    assert "000000.png" in capsys.readouterr().err
    assert not (tmp_path / "found.json").exists()
