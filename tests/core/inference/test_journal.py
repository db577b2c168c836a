"""Journals of detections: a damaged line ends them, and nothing in them raises another error."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sparsevod_core.errors import ConfigError
from sparsevod_core.inference.journal import Journal
from sparsevod_core.structures import Detections

RUN = {"video": "a.mp4", "model": "sha256 12ab"}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    with Journal(tmp_path / "a.journal.jsonl", RUN, resume=False) as journal:
        journal.write(Detections(np.ones((2, 4), np.float32), np.ones(2, np.float32), np.arange(2)))
    return tmp_path / "a.journal.jsonl"


@pytest.mark.parametrize(
    "damage",
    [
        b"[[[1, 2, 3, 4]], [0.5], [%b]]" % (b"9" * 30),
        b"[[[1, 2, 3, %b]], [0.5], [0]]" % (b"9" * 400),
        b"[[[1, 2, 3, 4]], [0.5], [7]]",
        b"[[[1, 2, 3, 4]], [0.5], [-1]]",
        b"[[[1, 2, 3, NaN]], [0.5], [0]]",
        b"[[[1, 2, 3, 4]], [1e999], [0]]",
        b"[[[1, 2], [3]], [0.5], [0]]",
        b"[[[1, 2, 3, 4]], [0.5, 0.4], [0]]",
        b'{"published": 7}',
        b'"text"',
        b"[" * 100_000,
        b"\xff\xfe",
    ],
    ids=range(12),
)
def test_a_damaged_line_ends_a_journal(damage: bytes, path: Path) -> None:
    intact = path.read_bytes()
    path.write_bytes(intact + damage + b"\n")
    with Journal(path, RUN, resume=True, num_classes=2) as journal:
        assert journal.num_frames == len(list(journal)) == 1
    assert path.read_bytes() == intact


@pytest.mark.parametrize("header", [b"[" * 100_000, b"\xff\n", b"{}\n", b"9" * 5000 + b"\n"])
def test_another_file_is_not_changed(header: bytes, path: Path) -> None:
    path.write_bytes(header)
    with pytest.raises(ConfigError, match="not a journal of detections"):
        Journal(path, RUN, resume=True)
    assert path.read_bytes() == header
