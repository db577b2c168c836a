"""Settings of a run: what follows from what, and what a resumed run may change."""

from __future__ import annotations

from pathlib import Path

import pytest

from sparsevod_core.config import DataConfig
from sparsevod_core.errors import ConfigError, DataError
from sparsevod_core.training.settings import new_run_settings, resumed_settings


@pytest.fixture
def annotations(tmp_path: Path) -> str:
    path = tmp_path / "train.json"
    path.write_text("{}")
    return f"data.train_annotations={path}"


class Lines:
    def __init__(self) -> None:
        self.messages: list[str] = []

    def message(self, text: str) -> None:
        self.messages.append(text)


def test_no_backbone_weights_means_group_norm_and_nothing_frozen(annotations: str) -> None:
    said = Lines()
    overrides = [annotations, "train.backbone_weights=none"]
    config = new_run_settings("r50", None, overrides, said)  # type: ignore[arg-type]
    assert (config.model.norm, config.model.frozen_stages) == ("group", 0)
    assert len(said.messages) == 1 and "model.norm=group" in said.messages[0]


def test_an_override_of_the_model_wins(annotations: str) -> None:
    overrides = [annotations, "train.backbone_weights=none", "model.norm=batch"]
    config = new_run_settings("r50", None, overrides)
    assert (config.model.norm, config.model.frozen_stages) == ("batch", 0)


def test_a_file_wins_over_what_follows_from_other_settings(
    annotations: str, tmp_path: Path
) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("model: {norm: batch}\ntrain: {backbone_weights: none}\n")
    config = new_run_settings("r50", file, [annotations])
    assert (config.model.norm, config.model.frozen_stages) == ("batch", 0)
    file.write_text("model: {norm: batch, frozen_stages: 2}\ntrain: {backbone_weights: none}\n")
    with pytest.raises(ConfigError, match=r"frozen_stages=2 would freeze random weights"):
        new_run_settings("r50", file, [annotations])


def test_overrides_that_fit_only_together_are_taken_together(annotations: str) -> None:
    overrides = [annotations, "model.norm=group", "train.backbone_weights=none"]
    assert new_run_settings("r50", None, overrides).model.frozen_stages == 0


def test_a_checkpoint_to_start_from_keeps_its_norm(annotations: str) -> None:
    overrides = [annotations, "train.backbone_weights=none", "train.init_from=some.pth"]
    assert new_run_settings("r50", None, overrides).model.norm == "batch"


def test_own_training_data_is_not_validated_on_imagenet_vid(annotations: str) -> None:
    assert new_run_settings("tiny", None, [annotations]).data.val_annotations is None


def test_it_is_where_that_is_asked_for(annotations: str) -> None:
    chosen = f"data.val_annotations={DataConfig().val_annotations}"
    with pytest.raises(DataError, match=r"imagenet_vid/val\.json: no such file of validation"):
        new_run_settings("tiny", None, [annotations, chosen])


def test_missing_imagenet_vid_says_how_to_prepare_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=r"data/imagenet_vid/train\.json") as error:
        new_run_settings("r50")
    assert "sparsevod prepare-vid" in str(error.value.hint)


def test_missing_own_files_are_named(tmp_path: Path, annotations: str) -> None:
    with pytest.raises(DataError, match=r"nowhere\.json") as error:
        new_run_settings("r50", None, ["data.train_annotations=nowhere.json"])
    assert "--annotations" in str(error.value.hint)
    with pytest.raises(DataError, match=r"gone\.json: no such file of validation"):
        new_run_settings("r50", None, [annotations, "data.val_annotations=gone.json"])


def test_a_resumed_run_may_run_longer_but_not_otherwise(tmp_path: Path, annotations: str) -> None:
    saved = tmp_path / "config.yaml"
    saved.write_text(new_run_settings("tiny", None, [annotations]).to_yaml())
    assert resumed_settings(saved, ["train.epochs=50", "train.record=on"]).train.epochs == 50
    with pytest.raises(ConfigError, match=r"cannot change model\.num_stages from 3 to 4") as error:
        resumed_settings(saved, ["model.num_stages=4"])
    assert "--init-from" in str(error.value.hint)
    with pytest.raises(ConfigError, match="cannot change seed"):
        resumed_settings(saved, ["seed=1"])
