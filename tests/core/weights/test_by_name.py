"""Names of published weights in place of a checkpoint."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
import torch

from sparsevod_core.checkpoint import embedded_checkpoint, initialize_from, load_detector
from sparsevod_core.errors import CheckpointError
from sparsevod_core.inference import Predictor
from sparsevod_core.weights.by_name import checkpoint_file, published
from sparsevod_core.weights.registry import PUBLISHED, PublishedWeights


@pytest.fixture
def cached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Publish the bundled model as `tiny-ours`, with its file in the cache; the folder is empty."""
    content = embedded_checkpoint().read_bytes()
    path = f"mmtracking/tiny-{hashlib.sha256(content).hexdigest()[:8]}.pth"
    weights = PublishedWeights("tiny-ours", path, "SparseVOD", "tiny", "ours", 10)
    monkeypatch.setitem(PUBLISHED, weights.name, weights)
    monkeypatch.setenv("SPARSEVOD_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("SPARSEVOD_WEIGHTS_URL", "http://127.0.0.1:1")
    (tmp_path / "cache").mkdir()
    (tmp_path / "cwd").mkdir()
    monkeypatch.chdir(tmp_path / "cwd")
    file = tmp_path / "cache" / weights.file_name
    file.write_bytes(content)
    return file


def test_a_name_is_a_checkpoint(cached: Path) -> None:
    assert checkpoint_file("tiny-ours") == checkpoint_file(Path("tiny-ours")) == cached
    by_name, expected = load_detector("tiny-ours")[0], load_detector(None)[0]
    for name, weight in by_name.state_dict().items():
        assert torch.equal(weight, expected.state_dict()[name])
    predictor = Predictor.from_checkpoint("tiny-ours", device="cpu")
    assert str(predictor.checkpoint) == "tiny-ours"  # as results record it
    report = initialize_from(by_name, "tiny-ours")
    assert report.origin.startswith("tiny-ours (") and report.skipped == []


def test_a_file_wins_and_a_folder_does_not(cached: Path) -> None:
    Path("tiny-ours").mkdir()  # results of the model, named after it
    assert checkpoint_file("tiny-ours") == cached
    Path("selsa").mkdir()
    assert checkpoint_file("selsa") == Path("selsa")
    Path("tiny-ours").rmdir()
    Path("tiny-ours").write_bytes(b"")
    assert checkpoint_file("tiny-ours") == Path("tiny-ours")


@pytest.mark.parametrize("word", ["selsa-r50", "SELSA_R50_vid", "selsa", "sesla-r50-vid"])
def test_a_word_like_a_name_gets_a_suggestion(cached: Path, word: str) -> None:
    for find in (checkpoint_file, published):
        with pytest.raises(CheckpointError, match="no published weights of this name") as caught:
            find(word)
        assert caught.value.hint is not None
        assert caught.value.hint.startswith("did you mean selsa-r50-vid?")


@pytest.mark.parametrize("word", ["best", "a", "last.pth", "runs/selsa-r50", "selsa-r50-vid.pth"])
def test_other_words_are_paths(cached: Path, word: str) -> None:
    assert checkpoint_file(word) == Path(word)
    with pytest.raises(CheckpointError, match="no such checkpoint"):
        load_detector(word)


def test_a_part_of_a_detector_is_no_checkpoint(cached: Path) -> None:
    with pytest.raises(CheckpointError, match="flownet-simple: not a detector") as caught:
        load_detector("flownet-simple")
    assert caught.value.hint == "use it as sparsevod train --init-from flownet-simple"
