"""Reading a results file in pieces by several processes gives the same as reading it whole."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sparsevod_core.errors import DataError
from sparsevod_core.evaluation.metrics.detection_table import DetectionTable
from sparsevod_core.evaluation.metrics.ground_truth import GroundTruth
from sparsevod_core.evaluation.predictions import from_file
from sparsevod_core.evaluation.predictions.from_file import NoPiecesError, cut, read_predictions

NUM_IMAGES = 40


@pytest.fixture
def truth(tmp_path: Path) -> GroundTruth:
    content = {
        "images": [{"id": id_} for id_ in range(NUM_IMAGES)],
        "categories": [{"id": "car", "name": "car"}, {"id": 3, "name": "dog"}],
        "annotations": [],
    }
    (tmp_path / "truth.json").write_text(json.dumps(content))
    return GroundTruth.load(tmp_path / "truth.json")


@pytest.fixture
def in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(from_file, "PARALLEL_BYTES", 0)
    monkeypatch.setattr(from_file, "num_processors", lambda: 2)
    monkeypatch.setattr(from_file, "PIECE_BYTES", 6000)
    monkeypatch.setattr(from_file, "_LONGEST_ENTRY", 1000)


def entries(count: int, seed: int = 0) -> list[dict[str, Any]]:
    rng = np.random.default_rng(seed)
    return [
        {
            "image_id": int(rng.integers(NUM_IMAGES)),
            "category_id": ["car", 3][rng.integers(2)],
            "bbox": rng.normal(0, 100, 4).tolist(),
            "score": float(rng.random()),
        }
        for _ in range(count)
    ]


def write(folder: Path, content: Any, **how: Any) -> Path:
    path = folder / "found.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content, **how))
    return path


def test_no_module_of_the_current_folder_is_run(
    truth: GroundTruth, tmp_path: Path, in_pieces: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "json.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    monkeypatch.chdir(tmp_path)
    read_predictions(write(tmp_path, entries(300)), truth)
    assert not (tmp_path / "ran").exists()


def assert_holds(table: DetectionTable, found: list[dict[str, Any]]) -> None:
    ordered = sorted(found, key=lambda entry: entry["image_id"])  # stable, like the table's order
    assert table.images.tolist() == [entry["image_id"] for entry in ordered]
    assert table.categories.tolist() == [["car", 3].index(e["category_id"]) for e in ordered]
    assert table.boxes_xywh.tolist() == [entry["bbox"] for entry in ordered]
    assert table.scores.tolist() == [entry["score"] for entry in ordered]
    for image in (0, NUM_IMAGES - 1):
        there = table.scores[table.of_image(image)].tolist()
        assert there == [entry["score"] for entry in found if entry["image_id"] == image]


def refuse_whole(*_: Any) -> Any:
    raise AssertionError("was read whole")


@pytest.mark.parametrize("how", [{}, {"indent": 1}, {"separators": (",", ":")}])
@pytest.mark.usefixtures("in_pieces")
def test_pieces_hold_every_entry(
    tmp_path: Path, truth: GroundTruth, how: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = entries(500)
    path = write(tmp_path, found, **how)
    assert len(cut(path)) >= 8
    monkeypatch.setattr(from_file, "_read_whole", refuse_whole)
    assert_holds(read_predictions(path, truth), found)


@pytest.mark.usefixtures("in_pieces")
@pytest.mark.parametrize(
    "extra",
    [
        {"note": 'a brace, } , { and a quote \\" in a text'},
        {"parts": [{"x": 1}, {"x": 2}, {"y": [{}, {}]}]},
        {"segmentation": {"counts": "}, {", "size": [1, 2]}},
    ],
)
def test_a_cut_inside_an_entry_is_detected(
    tmp_path: Path, truth: GroundTruth, extra: dict[str, Any]
) -> None:
    """The file is then read whole."""
    found = [entry | extra for entry in entries(500)]
    assert_holds(read_predictions(write(tmp_path, found), truth), found)


@pytest.mark.usefixtures("in_pieces")
@pytest.mark.parametrize("position", [0, 321, 499])
def test_an_invalid_entry_is_reported_by_its_position_in_the_file(
    tmp_path: Path, truth: GroundTruth, position: int
) -> None:
    found = entries(500)
    found[position]["score"] = float("inf")
    found[499]["bbox"] = [1]
    with pytest.raises(DataError, match=rf"entry {position}: (score|bbox): expected"):
        read_predictions(write(tmp_path, found), truth)


@pytest.mark.usefixtures("in_pieces")
def test_invalid_json_is_located(tmp_path: Path, truth: GroundTruth) -> None:
    text = json.dumps(entries(500))
    middle = text.index('"score"', len(text) // 2)
    entry = text.rindex("{", 0, middle)
    with pytest.raises(DataError, match=rf"not valid JSON at character {entry:,}: "):
        read_predictions(write(tmp_path, text[:middle] + "'" + text[middle:]), truth)
    for end in ("", ",]", "] ]"):
        with pytest.raises(DataError, match="not valid JSON at character"):
            read_predictions(write(tmp_path, text[:-1] + end), truth)


@pytest.mark.usefixtures("in_pieces")
def test_integers_too_large_for_an_array(tmp_path: Path, truth: GroundTruth) -> None:
    found = entries(500)
    found[400]["bbox"] = [10**300, 0, 1, 1]
    assert read_predictions(write(tmp_path, found), truth).boxes_xywh.max() == 1e300


@pytest.mark.usefixtures("in_pieces")
@pytest.mark.parametrize("start", ["raise SystemExit", "import sys; sys.stdin.read(); print(1)"])
def test_if_processes_fail_the_file_is_read_whole(
    tmp_path: Path, truth: GroundTruth, start: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(from_file, "_START", start)
    found = entries(500)
    assert_holds(read_predictions(write(tmp_path, found), truth), found)


def test_only_lists_are_cut(tmp_path: Path) -> None:
    with pytest.raises(NoPiecesError):
        cut(write(tmp_path, {"a": entries(3)}))


def test_from_a_script_without_a_main_guard(tmp_path: Path, truth: GroundTruth) -> None:
    """The script runs once, and torch is never imported."""
    path = write(tmp_path, entries(500))
    script = tmp_path / "script.py"
    script.write_text(
        "import sys\n"
        "from pathlib import Path\n"
        "from sparsevod_core.evaluation.predictions import from_file\n"
        "from sparsevod_core.evaluation.score import evaluate_predictions\n"
        "from_file.PARALLEL_BYTES, from_file.PIECE_BYTES = 0, 6000\n"
        "from_file.num_processors = lambda: 2\n"
        "from_file._read_whole = None\n"
        f"result = evaluate_predictions({str(truth.path)!r}, {str(path)!r})\n"
        "print(result.boxes.num_detections, 'torch' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=600)
    assert done.stdout == "500 False\n", done.stderr
