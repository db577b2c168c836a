"""Initialization of a detector from the checkpoint of another, and the report on it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from sparsevod_core.checkpoint import Checkpoint, initialize_from, save_checkpoint
from sparsevod_core.config import load_config
from sparsevod_core.errors import CheckpointError
from sparsevod_core.model.build import build_detector
from sparsevod_core.model.detector import SparseVOD
from sparsevod_core.structures import Category

FOX, OWL, EEL, BAT = (Category(i, name) for i, name in enumerate(("fox", "owl", "eel", "bat")))
STILL = ("model.tfe=off", "model.spfa=off")


def tiny(*overrides: str, classes: int = 3) -> SparseVOD:
    """Return the tiny detector, initialized differently for each seed."""
    return build_detector(
        load_config("tiny", overrides=[f"model.num_classes={classes}", *overrides]).model
    )


def saved(path: Path, *overrides: str, categories: tuple[Category, ...] = (FOX, OWL, EEL)) -> Path:
    """Save a checkpoint of such a detector."""
    config = load_config("tiny", overrides=[f"model.num_classes={len(categories)}", *overrides])
    model = build_detector(config.model).state_dict()
    save_checkpoint(path / "start.pth", Checkpoint(config, categories, model))
    return path / "start.pth"


def weights(path: Path) -> dict[str, Tensor]:
    return torch.load(path, weights_only=True)["model"]


def test_the_same_detector_is_loaded_whole(tmp_path: Path) -> None:
    path, detector = saved(tmp_path), tiny()
    report = initialize_from(detector, path, (FOX, OWL, EEL))
    state = detector.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in weights(path).items())
    assert report.skipped == [] and report.new == [] and report.new_classes == []
    count = len(state)
    assert report.lines() == [f"{path} (SparseVOD, 3 classes): {count} of {count} weights loaded"]


def test_a_frame_detector_gets_tfe_and_spfa(tmp_path: Path) -> None:
    path, detector = saved(tmp_path, *STILL), tiny()
    before = {name: value.clone() for name, value in detector.state_dict().items()}
    report = initialize_from(detector, path)
    state, start = detector.state_dict(), weights(path)
    for name, value in state.items():
        assert torch.equal(value, start.get(name, before[name])), name
    assert set(report.loaded) == set(start) and report.skipped == []
    assert set(report.new) == set(state) - set(start)
    assert report.lines()[1:] == ["newly initialized: TFE, SPFA of stages 1-3"]


def test_classes_are_carried_over_by_name(tmp_path: Path) -> None:
    """Both sides have three classes in different orders; two of them are shared."""
    path, detector = saved(tmp_path), tiny()
    before = {name: value.clone() for name, value in detector.state_dict().items()}
    report = initialize_from(detector, path, (EEL, BAT, FOX))
    state, start = detector.state_dict(), weights(path)
    for name in ("stages.0.class_logits.weight", "stages.2.class_logits.bias"):
        assert torch.equal(state[name][0], start[name][2])
        assert torch.equal(state[name][1], before[name][1])
        assert torch.equal(state[name][2], start[name][0])
    assert report.skipped == [] and report.new == [] and report.new_classes == ["bat"]
    assert report.lines()[1:] == ["newly initialized classes: bat"]


def test_without_a_class_in_common_the_class_layers_are_new(tmp_path: Path) -> None:
    path, detector = saved(tmp_path), tiny(classes=1)
    before = detector.state_dict()["stages.1.class_logits.weight"].clone()
    report = initialize_from(detector, path, (BAT,))
    assert torch.equal(detector.state_dict()["stages.1.class_logits.weight"], before)
    assert report.new_classes == []
    assert report.lines()[1:] == [
        "skipped: class_logits of stages 1-3 (no class of the same name)",
        "newly initialized: class_logits of stages 1-3",
    ]


def test_another_class_count_without_names(tmp_path: Path) -> None:
    report = initialize_from(tiny(classes=5), saved(tmp_path))
    assert "stages.0.class_logits.weight: [3, 64] → [5, 64]" in report.skipped
    assert report.lines()[1:] == [
        "skipped: class_logits of stages 1-3 ([3, 64] → [5, 64])",
        "newly initialized: class_logits of stages 1-3",
    ]


def test_fewer_and_more_stages(tmp_path: Path) -> None:
    path = saved(tmp_path)
    report = initialize_from(tiny("model.num_stages=2"), path)
    assert report.new == []
    assert len(report.lines()) == 2
    assert report.lines()[1].endswith(" of stage 3 (not in this detector)")
    report = initialize_from(tiny("model.num_stages=5"), path)
    assert report.skipped == []
    assert len(report.lines()) == 2
    assert report.lines()[1].startswith("newly initialized: TFE, ")
    assert report.lines()[1].endswith(" more of stages 4-5")


def test_a_layer_is_loaded_whole_or_not_at_all(tmp_path: Path) -> None:
    path, detector = saved(tmp_path), tiny("model.ffn_dim=128", "model.num_proposals=7")
    fresh = detector.state_dict()["stages.0.ffn.2.bias"].clone()
    report = initialize_from(detector, path)
    assert torch.equal(detector.state_dict()["stages.0.ffn.2.bias"], fresh)
    assert "stages.0.ffn.2.bias: the rest of its layer does not fit" in report.skipped
    assert report.lines()[1:] == [
        "skipped: proposals ([16, 4] → [7, 4])",
        "skipped: ffn of stages 1-3 ([256, 64] → [128, 64])",
        "newly initialized: proposals; ffn of stages 1-3",
    ]


def test_group_norm_takes_nothing_from_batch_norm(tmp_path: Path) -> None:
    report = initialize_from(tiny(), saved(tmp_path, "model.norm=batch"))
    assert "backbone.stem.bn1.weight: layer of another kind" in report.skipped
    assert report.lines()[1:] == [
        "skipped: backbone (layer of another kind)",
        "newly initialized: backbone",
    ]


def test_refused_when_nothing_of_the_head_fits(tmp_path: Path) -> None:
    path, detector = saved(tmp_path, "model.channels=32"), tiny()
    before = {name: value.clone() for name, value in detector.state_dict().items()}
    with pytest.raises(CheckpointError) as caught:
        initialize_from(detector, path, (FOX, OWL, EEL))
    assert f"{path} (SparseVOD, 3 classes): no layer of its head fits" in caught.value.message
    assert "[32, 32, 3, 3] → [64, 64, 3, 3]" in caught.value.message
    assert caught.value.hint is not None and "--set model.channels=32" in caught.value.hint
    assert all(torch.equal(v, before[name]) for name, v in detector.state_dict().items())
