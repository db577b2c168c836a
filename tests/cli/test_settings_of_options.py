"""Every option with a setting behind it: option, then --set, then --config, then the default."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from typer.testing import CliRunner

from sparsevod_cli.main import app
from sparsevod_core.config import all_keys, load_config

OPTIONS = {
    "detect": {
        "supports": "inference.supports",
        "support": "inference.support",
        "batch": "inference.batch",
        "precision": "inference.precision",
        "compile_": "inference.compile",
        "seed": "seed",
    },
    "eval": {
        "supports": "inference.supports",
        "support": "inference.support",
        "batch": "inference.batch",
        "seed": "seed",
    },
    "visualize-stages": {
        "supports": "inference.supports",
        "support": "inference.support",
        "seed": "seed",
    },
    "train": {
        "annotations": "data.train_annotations",
        "root": "data.train_root",
        "val": "data.val_annotations",
        "val_root": "data.val_root",
        "backbone_weights": "train.backbone_weights",
        "init_from": "train.init_from",
        "epochs": "train.epochs",
        "max_steps": "train.max_steps",
        "seed": "seed",
    },
    "bench": {
        "supports": "inference.supports",
        "batch": "inference.batch",
        "precision": "inference.precision",
        "compile_": "inference.compile",
        "seed": "seed",
    },
    "bench data": {
        "annotations": "data.train_annotations",
        "root": "data.train_root",
        "workers": "data.workers",
        "seed": "seed",
    },
    "bench train": {
        "annotations": "data.train_annotations",
        "root": "data.train_root",
        "workers": "data.workers",
        "precision": "train.precision",
        "seed": "seed",
    },
}
"""Of each command the parameters that stand for a setting."""

VALUES: dict[str, tuple[str, str, str]] = {
    "inference.supports": ("1", "2", "3"),
    "inference.support": ("uniform", "window", "causal"),
    "inference.batch": ("2", "3", "4"),
    "inference.precision": ("fp32", "tf32", "bf16"),
    "inference.compile": ("on", "off", "auto"),
    "train.precision": ("fp32", "tf32", "bf16"),
    "train.backbone_weights": ("none", "a.pth", "b.pth"),
    "train.epochs": ("1", "2", "3"),
    "train.max_steps": ("1", "2", "3"),
    "data.workers": ("0", "1", "3"),
    "seed": ("1", "2", "3"),
}
"""Three values of each setting; files are made for those that are not here."""


class ArrivedError(Exception):
    """The settings are known: nothing more is done."""


@pytest.fixture
def settings_of(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """Runs a command until its settings are resolved, and gives these."""
    arrived: list[dict[str, Any]] = []

    def arrive(config: Any, *_: Any, **__: Any) -> Any:
        arrived.append(config.to_dict())
        raise ArrivedError

    import sparsevod_core.distributed.launch as launching
    from sparsevod_core.inference import Predictor

    def predict(*_: Any, overrides: list[str], **__: Any) -> Any:
        return arrive(load_config(overrides=overrides))

    def launch(_: Any, *others: Any, **options: Any) -> Any:
        if "settings" in options:
            return predict(overrides=options["settings"])
        configs = [other for other in others if hasattr(other, "to_dict")]
        return arrive(configs[0])

    def bench(_: Any, settings: Any, **__: Any) -> Any:
        names = ("supports", "batch", "precision", "compile")
        changes = {f"inference.{name}": getattr(settings, name) for name in names}
        return arrive(load_config().replace(changes | {"seed": settings.seed}))

    monkeypatch.setattr(Predictor, "from_checkpoint", predict)
    monkeypatch.setattr(launching, "launch", launch)
    monkeypatch.setattr(launching, "launch_on", lambda *given, **options: launch(None, *given))
    monkeypatch.setattr("sparsevod_core.training.settings.require_annotations", lambda _: None)
    monkeypatch.setattr("sparsevod_core.benchmark.data.benchmark_data", arrive)
    monkeypatch.setattr("sparsevod_core.benchmark.train.benchmark_training", arrive)
    monkeypatch.setattr("sparsevod_core.benchmark.inference.benchmark", bench)

    (tmp_path / "a.mp4").write_bytes(b"")

    def run(command: str, *options: str) -> dict[str, Any]:
        words = command.split()
        if command in ("detect", "visualize-stages"):
            words.append(str(tmp_path / "a.mp4"))
        if command == "bench":
            words += ["--backbone", "tiny"]
        arrived.clear()
        done = CliRunner().invoke(app, [*words, *options])
        assert isinstance(done.exception, ArrivedError), (done.output, done.exception)
        flat: dict[str, Any] = {"seed": arrived[0]["seed"]}
        for section, values in arrived[0].items():
            if isinstance(values, dict):
                flat |= {f"{section}.{name}": value for name, value in values.items()}
        return flat

    return run


def commands() -> dict[str, Any]:
    """Every command that takes settings, by its words."""
    found: dict[str, Any] = {}

    def walk(command: Any, words: str) -> None:
        if any(parameter.name == "overrides" for parameter in command.params):
            found[words] = command
        for word, below in getattr(command, "commands", {}).items():
            walk(below, f"{words} {word}".strip())

    walk(typer.main.get_command(app), "")
    return found


def test_every_command_with_settings_is_looked_at() -> None:
    assert commands().keys() == OPTIONS.keys()
    names = {key.rpartition(".")[2] for key in all_keys()}
    for words, command in commands().items():
        stand_for = {p.name for p in command.params if p.name.rstrip("_") in names}
        others = {"backbone", "crop"}  # a preset; detect's folder of pictures
        assert stand_for - others <= OPTIONS[words].keys(), words


@pytest.mark.parametrize(
    ("command", "parameter", "key"),
    [(c, parameter, key) for c, of in OPTIONS.items() for parameter, key in of.items()],
)
def test_the_option_wins_then_set_then_the_file(
    command: str, parameter: str, key: str, settings_of: Callable[..., Any], tmp_path: Path
) -> None:
    (option,) = (p for p in commands()[command].params if p.name == parameter)
    flag = max(option.opts, key=len)
    by_option, by_set, by_file = VALUES.get(
        key, tuple(str(tmp_path / name) for name in ("option", "set", "file"))
    )
    file = tmp_path / "config.yaml"
    section, _, name = key.rpartition(".")
    value = yaml.safe_load(by_file)
    file.write_text(yaml.safe_dump({section: {name: value}} if section else {name: value}))
    from_file = ("--config", str(file))
    from_set = ("--set", f"{key}={by_set}")
    from_option = (flag, by_option)

    def found(*options: str) -> str:
        return str(settings_of(command, *options)[key])

    assert found(*from_file) == by_file
    assert found(*from_file, *from_set) == by_set
    assert found(*from_set, *from_file, *from_option) == by_option


def test_detect_and_bench_choose_the_precision_where_nobody_does(
    settings_of: Callable[..., Any],
) -> None:
    assert settings_of("detect")["inference.precision"] == "auto"
    assert settings_of("bench")["inference.precision"] == "auto"
    assert settings_of("eval", "x.pth")["inference.precision"] == "fp32"
