"""Results files are written whole or not at all, to the last digit."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from sparsevod_core.errors import DataError
from sparsevod_core.evaluation.results_writer import ResultsWriter


def test_written_results_keep_every_digit(tmp_path: Path) -> None:
    path = tmp_path / "new" / "found.json"
    boxes = np.array([[0.1, 1 / 3, 10.0, 1e-3]])
    scores = np.array([np.float64(np.float32(0.7))])
    with ResultsWriter(path) as writer:
        writer.write(1, boxes, scores, [5])
        writer.write(3, np.zeros((0, 4)), np.zeros(0), [])
        writer.write(2, boxes, scores, [5])
        assert not path.exists()
    entry = {"category_id": 5, "bbox": boxes[0].tolist(), "score": scores[0]}
    assert json.loads(path.read_text()) == [{"image_id": 1, **entry}, {"image_id": 2, **entry}]
    assert [file.name for file in path.parent.iterdir()] == ["found.json"]


def test_nothing_written_is_an_empty_list(tmp_path: Path) -> None:
    with ResultsWriter(tmp_path / "found.json"):
        pass
    assert json.loads((tmp_path / "found.json").read_text()) == []


def test_an_interrupted_file_does_not_get_its_name(tmp_path: Path) -> None:
    path = tmp_path / "found.json"
    with pytest.raises(KeyboardInterrupt), ResultsWriter(path) as writer:
        writer.write(1, np.ones((1, 4)), np.ones(1), [5])
        raise KeyboardInterrupt
    assert not path.exists()
    assert '"image_id": 1' in (tmp_path / "found.json.partial").read_text()


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot write"), ResultsWriter(tmp_path / "file" / "x"):
        pass
