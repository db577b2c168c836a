"""Settings: precedence of sources, casts from text, and refused values."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from sparsevod_core.config import (
    Config,
    DataConfig,
    InferenceConfig,
    LossConfig,
    ModelConfig,
    TrainConfig,
    config_from_dict,
    file_overrides,
    load_config,
    preset_names,
)
from sparsevod_core.errors import ConfigError
from sparsevod_core.model.build import build_detector


def write(folder: Path, text: str) -> Path:
    path = folder / "settings.yaml"
    path.write_text(text, encoding="utf-8")
    return path


# --- the paper's recipe -------------------------------------------------------------------------


def test_defaults_are_the_papers_recipe() -> None:
    config = Config()
    assert (config.model.num_stages, config.model.num_proposals) == (6, 100)
    assert (config.model.tfe, config.model.spfa) == ("attention", "attention")
    assert (config.train.epochs, config.train.milestones) == (12, (8, 11))
    assert (config.train.learning_rate, config.train.weight_decay) == (2.5e-5, 1e-4)
    assert (config.loss.class_weight, config.loss.l1_weight, config.loss.giou_weight) == (2, 5, 2)
    assert (config.inference.supports, config.inference.support) == (6, "uniform")


def test_presets_that_the_command_line_names_exist() -> None:
    assert preset_names() == ["lite0", "r101", "r50", "tiny", "x101"]


def test_r50_preset_is_the_default() -> None:
    assert load_config("r50") == Config()


def test_tiny_preset_trains_from_scratch_with_group_norm() -> None:
    tiny = load_config("tiny")
    assert (tiny.model.backbone, tiny.model.norm) == ("tiny", "group")
    assert (tiny.model.frozen_stages, tiny.train.backbone_weights) == (0, "none")


# --- round trips --------------------------------------------------------------------------------


@pytest.mark.parametrize("preset", [None, *preset_names()])
def test_config_survives_dict_and_yaml(preset: str | None, tmp_path: Path) -> None:
    config = load_config(preset)
    assert config_from_dict(config.to_dict()) == config
    assert load_config(file=write(tmp_path, config.to_yaml())) == config


def test_dict_holds_plain_values_only() -> None:
    """`weights_only` loading and `yaml.safe_load` accept no tuples and no classes."""

    def plain(value: Any) -> bool:
        if isinstance(value, dict):
            return all(isinstance(key, str) and plain(item) for key, item in value.items())
        if isinstance(value, list):
            return all(map(plain, value))
        return value is None or type(value) in (str, int, float, bool)

    assert plain(Config().to_dict())


def test_missing_keys_keep_their_defaults() -> None:
    config = config_from_dict({"train": {"epochs": 3}})
    assert config == Config(train=TrainConfig(epochs=3))


def test_every_setting_can_be_set_to_its_own_value() -> None:
    """Every setting can be set with `--set`, and its default survives conversion to text."""
    for key, default in Config().flat().items():
        assert load_config(overrides=[f"{key}={default}"]) == Config(), key


# --- precedence ---------------------------------------------------------------------------------


def test_overrides_win_over_the_file_which_wins_over_the_preset(tmp_path: Path) -> None:
    file = write(tmp_path, "model:\n  num_stages: 4\n  channels: 32\n")
    config = load_config("tiny", file, ["model.num_stages=5"])
    assert config.model.num_stages == 5  # --set
    assert config.model.channels == 32  # file
    assert config.model.backbone == "tiny"  # preset


def test_last_override_wins() -> None:
    assert load_config(overrides=["seed=1", "seed=2"]).seed == 2


def test_replace_leaves_the_original() -> None:
    config = Config()
    changed = config.replace({"train.epochs": 1, "model.tfe": "off"})
    assert (changed.train.epochs, changed.model.tfe) == (1, "off")
    assert config == Config()


def test_config_cannot_be_changed_in_place() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        Config().seed = 3  # type: ignore[misc]


# --- casts --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "value"),
    [("1e-4", 1e-4), ("0.0001", 1e-4), ("1", 1.0), (" 2.5E-5 ", 2.5e-5)],
)
def test_learning_rate_is_a_number_however_it_is_written(
    text: str, value: float, tmp_path: Path
) -> None:
    # PyYAML reads 1e-4, without a dot, as text.
    from_option = load_config(overrides=[f"train.learning_rate={text}"])
    from_file = load_config(file=write(tmp_path, f"train:\n  learning_rate: {text}\n"))
    assert from_option.train.learning_rate == from_file.train.learning_rate == value
    assert type(from_file.train.learning_rate) is float


@pytest.mark.parametrize("text", ["off", "'off'", "OFF"])
def test_yaml_off_is_the_word_off(text: str, tmp_path: Path) -> None:
    # YAML 1.1 reads a bare `off` as False.
    file = write(
        tmp_path, f"model: {{tfe: {text}}}\ninference: {{compile: {text}, fast: {text}}}\n"
    )
    for config in (load_config(file=file), load_config(overrides=file_overrides(file))):
        assert (config.model.tfe, config.inference.compile) == ("off", "off")
        assert config.inference.fast is False


@pytest.mark.parametrize(("text", "now"), [("false", "auto"), ("true", "on")])
def test_files_of_versions_in_which_compile_was_a_bool(text: str, now: str, tmp_path: Path) -> None:
    """`false` was the default, so it becomes `auto`."""
    file = write(tmp_path, f"inference:\n  compile: {text}\n")
    assert load_config(file=file).inference.compile == now
    assert load_config(overrides=file_overrides(file)).inference.compile == now
    assert config_from_dict({"inference": {"compile": text == "true"}}).inference.compile == now


def test_off_as_an_option() -> None:
    config = load_config(overrides=["model.tfe=off", "model.spfa=average"])
    assert (config.model.tfe, config.model.spfa) == ("off", "average")


@pytest.mark.parametrize("text", ["[8,11]", "8,11", "[8, 11]", "(8, 11)"])
def test_list_as_an_option(text: str) -> None:
    assert load_config(overrides=[f"train.milestones={text}"]).train.milestones == (8, 11)


def test_empty_list() -> None:
    assert load_config(overrides=["train.milestones=[]"]).train.milestones == ()


@pytest.mark.parametrize("text", ["none", "None", "null"])
def test_optional_settings_can_be_unset(text: str, tmp_path: Path) -> None:
    file = write(tmp_path, "train:\n  max_steps: 10\n")
    assert load_config(file=file).train.max_steps == 10
    assert load_config(file=file, overrides=[f"train.max_steps={text}"]).train.max_steps is None


def test_the_word_none_stays_a_word_where_none_is_a_choice() -> None:
    assert load_config(
        "tiny", overrides=["train.backbone_weights=none"]
    ).train.backbone_weights == ("none")


def test_numbers_are_fine_as_file_names(tmp_path: Path) -> None:
    config = load_config(file=write(tmp_path, "data:\n  train_annotations: 2015\n"))
    assert config.data.train_annotations == "2015"


def test_value_may_contain_an_equals_sign() -> None:
    config = load_config(overrides=["data.train_annotations=a=b.json"])
    assert config.data.train_annotations == "a=b.json"


@settings(deadline=None)
@given(st.integers(min_value=0, max_value=2**63 - 1))
def test_whole_numbers_keep_every_digit(seed: int) -> None:
    assert load_config(overrides=[f"seed={seed}"]).seed == seed


@settings(deadline=None)
@given(st.floats(min_value=1e-12, max_value=1.0))
def test_floats_survive_yaml(rate: float) -> None:
    config = Config().replace({"train.learning_rate": rate})
    assert config_from_dict(yaml.safe_load(config.to_yaml())) == config


# --- what is refused ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("override", "hint"),
    [
        ("train.learning_rat=1", "did you mean train.learning_rate?"),
        ("trian.epochs=1", "did you mean train.epochs?"),
        ("epochs=1", "did you mean train.epochs?"),
        ("model.stages=1", "did you mean model.num_stages?"),
        ("model.tfe=atention", "did you mean attention?"),
        ("model.backbone=r5", "did you mean r50?"),
    ],
)
def test_a_slip_is_answered_with_what_was_meant(override: str, hint: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(overrides=[override])
    assert caught.value.hint == hint
    assert override.partition("=")[0] in caught.value.message


def test_a_slip_in_a_file_is_answered_alike(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="train\\.epoch") as caught:
        load_config(file=write(tmp_path, "train:\n  epoch: 1\n"))
    assert caught.value.hint == "did you mean train.epochs?"


def test_unknown_preset_lists_those_there_are() -> None:
    with pytest.raises(ConfigError, match="lite0, r101, r50, tiny, x101") as caught:
        load_config("r51")
    assert caught.value.hint == "did you mean r50?"


@pytest.mark.parametrize(
    "override",
    [
        "train.epochs=many",
        "train.epochs=1.5",
        "train.epochs=",
        "train.epochs=true",
        "train.learning_rate=fast",
        "train.learning_rate=nan",
        "data.flip=nan",
        "seed=inf",
        "train.milestones=[8,x]",
        "train.max_steps=soon",
        "model=r50",
        "seed.deeper=1",
        "train.epochs.deeper=1",
    ],
)
def test_a_value_of_another_type_is_named(override: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(overrides=[override])
    assert override.partition("=")[0].partition(".")[0] in caught.value.message


def test_an_override_without_a_value_shows_how() -> None:
    with pytest.raises(ConfigError, match="key=value"):
        load_config(overrides=["train.epochs"])


@pytest.mark.parametrize(
    ("section", "values"),
    [
        (ModelConfig, {"num_stages": 0}),
        (ModelConfig, {"num_stages": 7}),
        (ModelConfig, {"num_proposals": 0}),
        (ModelConfig, {"num_classes": 0}),
        (ModelConfig, {"channels": 0}),
        (ModelConfig, {"ffn_dim": 0}),
        (ModelConfig, {"dynamic_dim": 0}),
        (LossConfig, {"giou_weight": -1}),
        (Config, {"seed": -1}),
        (TrainConfig, {"learning_rate": -1e-4}),
        (TrainConfig, {"warmup_start": 2}),
        (ModelConfig, {"frozen_stages": 6}),
        (ModelConfig, {"tfe_top_k": 0}),
        (ModelConfig, {"num_heads": 7}),
        (ModelConfig, {"spfa_heads": 0}),
        (ModelConfig, {"tfe_blocks": 3}),
        (ModelConfig, {"norm": "group", "frozen_stages": 2}),
        (DataConfig, {"short_side": 16}),
        (DataConfig, {"short_side": 600, "long_side": 599}),
        (DataConfig, {"flip": 1.1}),
        (DataConfig, {"supports": -1}),
        (DataConfig, {"support_range": 0}),
        (DataConfig, {"workers": -1}),
        (TrainConfig, {"epochs": 0}),
        (TrainConfig, {"clips_per_gpu": 0}),
        (TrainConfig, {"max_steps": 0}),
        (TrainConfig, {"warmup_steps": -1}),
        (TrainConfig, {"log_every": 0}),
        (TrainConfig, {"eval_every": -1}),
        (InferenceConfig, {"supports": -1}),
        (InferenceConfig, {"window_stride": 0}),
        (InferenceConfig, {"batch": 0}),
    ],
)
def test_values_outside_their_range(section: type, values: dict[str, Any]) -> None:
    with pytest.raises(ConfigError) as caught:
        section(**values)
    assert any(name in caught.value.message for name in values)
    assert str(next(reversed(values.values()))) in caught.value.message


def test_zero_supports_and_one_stage_are_allowed() -> None:
    overrides = ["inference.supports=0", "data.supports=0", "model.num_stages=1"]
    assert load_config(overrides=overrides).inference.supports == 0


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("- a\n- b\n", "expected settings by name, got a list"),
        ("train: 3\n", "train: expected settings by name"),
        ("train:\n  epochs: [1]\n", "train.epochs"),
        ("model: {backbone: r50\n", "not valid YAML"),
        ("model: !!python/object/apply:os.getcwd []\n", "not valid YAML"),
        ("train: {milestones: x}\n", "train.milestones=x: expected int"),
        ("1: 2\n", "unknown setting '1'"),
        ("seed: .inf\n", "seed=.inf: expected int"),
    ],
)
def test_a_file_that_is_no_config(text: str, expected: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(file=write(tmp_path, text))
    assert expected in caught.value.message
    assert "\n" not in caught.value.message


@pytest.mark.parametrize("text", ["# nothing yet\n", "train:\n  # epochs: 3\n"])
def test_an_empty_file_or_section_changes_nothing(text: str, tmp_path: Path) -> None:
    assert load_config(file=write(tmp_path, text)) == Config()


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"absent\.yaml: cannot read"):
        load_config(file=tmp_path / "absent.yaml")


def test_a_file_that_is_not_text(tmp_path: Path) -> None:
    path = tmp_path / "image.yaml"
    path.write_bytes(b"\xff\xd8\xff\xe0\x00\x10JFIF")
    with pytest.raises(ConfigError, match=r"image\.yaml: not valid YAML"):
        load_config(file=path)


def test_every_setting_of_the_loss_is_a_number() -> None:
    assert all(isinstance(value, float) for value in dataclasses.asdict(LossConfig()).values())


def test_a_file_as_overrides_says_what_the_file_says(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(
        "model: {tfe: off}\ninference: {fast: false}\n"
        "train: {milestones: [2, 3], max_steps: null, learning_rate: 1e-4}\n"
    )
    assert load_config(overrides=file_overrides(file)) == load_config(file=file)
    file.write_text(Config().to_yaml())
    assert load_config("tiny", overrides=file_overrides(file)) == Config()
    file.write_text("train: {rate: 1}\n")
    with pytest.raises(ConfigError, match=r"train\.rate"):
        file_overrides(file)


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("model.channels", 10**11, "model.channels=100000000000: expected 1 to 8,192"),
        ("model.channels", [8], "model.channels=a list: expected int"),
        ("model.channels", "9" * 5000, "model.channels=" + "9" * 80 + ": expected int"),
        ("model.num_proposals", 10**10, "expected 1 to 10,000"),
        ("data.short_side", 10**6, "expected 32 to 8,192"),
        ("data.supports", 10**9, "expected 0 to 1,000"),
        ("inference.batch", 10**9, "expected 1 to 4,096"),
        ("train.milestones", [3, -1], "train.milestones=-1: expected 0 to"),
        ("loss.focal_alpha", 1.5, "expected 0 to 1"),
        ("seed", {"a": {"b": 1}}, "unknown setting 'seed.a'"),
        ("train.init_from", "a\0b", "train.init_from"),
        ("model.backbone", ["r50"], "model.backbone=a list: expected one of tiny"),
        ("train.record", [], "train.record=a list: expected true or false"),
    ],
)
def test_hostile_values(key: str, value: object, expected: str) -> None:
    section, _, name = key.rpartition(".")
    tree = {section: {name: value}} if section else {name: value}
    with pytest.raises(ConfigError) as caught:
        config_from_dict(tree)
    assert expected in caught.value.message


def test_a_number_that_python_refuses_to_print() -> None:
    with pytest.raises(ConfigError, match=r"model\.channels=a number of 16610 bits: expected 1 to"):
        config_from_dict({"model": {"channels": 10**5000}})


def test_a_model_that_does_not_fit_in_memory_is_refused() -> None:
    with pytest.raises(ConfigError, match="model: expected at most 1,000,000,000 parameters"):
        load_config(overrides=["model.channels=8192", "model.dynamic_dim=8192"])


def test_the_estimated_parameters_are_those_of_the_head() -> None:
    model = Config().model
    stages = build_detector(dataclasses.replace(model, backbone="tiny")).stages
    number = sum(weight.numel() for weight in stages.parameters())
    assert model.num_head_parameters() == pytest.approx(number, rel=0.1)


def test_every_number_has_a_range() -> None:
    for key, value in Config().flat().items():
        if isinstance(value, int | float) and not isinstance(value, bool):
            with pytest.raises(ConfigError, match=re.escape(key)):
                Config().replace({key: 1e31})


@pytest.mark.parametrize(
    "text", ["2001-99-99", "!!int x", "!!int ''", "!!timestamp x", "9" * 5000, "[" * 20_000]
)
def test_a_hostile_file_is_one_error(tmp_path: Path, text: str) -> None:
    file = tmp_path / "c.yaml"
    file.write_text(f"seed: {text}\n")
    with pytest.raises(ConfigError) as caught:
        load_config(file=file)
    assert "\n" not in caught.value.message and len(caught.value.message) < 400
