"""Initial weights: which files are needed, and errors when a download fails."""

from __future__ import annotations

from pathlib import Path
from urllib.error import URLError

import pytest

from sparsevod_core.checkpoint import Checkpoint, save_checkpoint
from sparsevod_core.config import Config, load_config
from sparsevod_core.errors import CheckpointError
from sparsevod_core.model.build import build_detector
from sparsevod_core.model.detector import SparseVOD
from sparsevod_core.reporting import SilentReporter
from sparsevod_core.structures import Category
from sparsevod_core.training import initial_weights
from sparsevod_core.training.initial_weights import initial_detector

CATEGORIES = (Category(1, "square"), Category(2, "bar"))


@pytest.fixture
def config() -> Config:
    smaller = ["model.num_classes=2", "model.num_stages=1", "model.num_proposals=4"]
    return load_config("tiny", overrides=[*smaller, "train.backbone_weights=imagenet"])


@pytest.fixture
def requested(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Backbone weights that were requested; ImageNet's cannot be downloaded."""
    names: list[str] = []

    def build(model: object, *, backbone_weights: str = "none") -> SparseVOD:
        names.append(backbone_weights)
        if backbone_weights == "imagenet":
            raise URLError("Name or service not known")
        return build_detector(model)  # type: ignore[arg-type]

    monkeypatch.setattr(initial_weights, "build_detector", build)
    return names


def test_a_failed_download_suggests_alternatives(config: Config, requested: list[str]) -> None:
    with pytest.raises(CheckpointError, match=r"cannot download.*Name or service") as error:
        initial_detector(config, CATEGORIES, SilentReporter())
    assert "--backbone-weights FILE" in str(error.value.hint)


def test_a_checkpoint_with_a_backbone_needs_no_download(
    config: Config, requested: list[str], tmp_path: Path
) -> None:
    weights = build_detector(config.model).state_dict()
    save_checkpoint(tmp_path / "complete.pth", Checkpoint(config, CATEGORIES, weights))
    init = config.replace({"train.init_from": str(tmp_path / "complete.pth")})
    initial_detector(init, CATEGORIES, SilentReporter())
    assert requested == ["none"]


def test_a_checkpoint_without_a_complete_backbone_needs_a_download(
    config: Config, requested: list[str], tmp_path: Path
) -> None:
    weights = build_detector(config.model).state_dict()
    head = {name: value for name, value in weights.items() if not name.startswith("backbone.s")}
    save_checkpoint(tmp_path / "head.pth", Checkpoint(config, CATEGORIES, head))
    init = config.replace({"train.init_from": str(tmp_path / "head.pth")})
    with pytest.raises(CheckpointError, match="cannot download"):
        initial_detector(init, CATEGORIES, SilentReporter())
    assert requested == ["none", "imagenet"]


def test_a_start_from_weights_that_are_not_finite_is_refused(
    config: Config, requested: list[str], tmp_path: Path
) -> None:
    weights = build_detector(config.model).state_dict()
    next(iter(weights.values())).fill_(float("nan"))
    save_checkpoint(tmp_path / "nan.pth", Checkpoint(config, CATEGORIES, weights))
    init = config.replace({"train.init_from": str(tmp_path / "nan.pth")})
    with pytest.raises(CheckpointError, match=r"nan\.pth: the weights are not finite"):
        initial_detector(init, CATEGORIES, SilentReporter())
