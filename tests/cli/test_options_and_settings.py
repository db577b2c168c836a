"""Precedence of settings in every command: options, then --set, then --config, then defaults.

No model or data is read.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import typer
import yaml

from sparsevod_cli.app import app
from sparsevod_core import checkpoint
from sparsevod_core.benchmark import data as bench_data
from sparsevod_core.benchmark import inference as bench
from sparsevod_core.benchmark import train as bench_train
from sparsevod_core.config import Config, load_config, override_pairs
from sparsevod_core.distributed import launch
from sparsevod_core.inference import Predictor
from sparsevod_core.model import build

STORED = load_config(
    overrides=[
        *("inference.supports=9", "inference.support=window", "inference.batch=9"),
        *("inference.precision=bf16", "inference.compile=on", "inference.fast=false"),
        *("data.short_side=320", "data.long_side=480", "seed=9"),
        *("data.val_annotations=stored.json", "data.val_root=stored"),
    ]
)
"""Settings in the checkpoint of a trained model."""

STATED = bench.BenchmarkSettings()


def conditions(measured: bench.BenchmarkSettings) -> Config:
    """Return the conditions of `bench` as settings."""
    names = ("supports", "batch", "precision", "compile", "fast")
    inference = {f"inference.{name}": getattr(measured, name) for name in names}
    short_side, long_side = measured.size
    size = {"data.short_side": short_side, "data.long_side": long_side}
    return Config().replace({**inference, **size, "seed": measured.seed})


VALUES: dict[str, tuple[Any, Any, Any]] = {
    "inference.supports": (2, 3, 4),
    "inference.support": ("uniform", "causal", "window"),
    "inference.batch": (2, 3, 4),
    "inference.precision": ("fp32", "tf32", "bf16"),
    "inference.compile": ("on", "off", "auto"),
    "inference.fast": (False, True, False),
    "data.short_side": (64, 128, 192),
    "data.long_side": (96, 160, 256),
    "data.train_annotations": ("a.json", "b.json", "c.json"),
    "data.train_root": ("a", "b", "c"),
    "data.val_annotations": ("a.json", "b.json", "c.json"),
    "data.val_root": ("a", "b", "c"),
    "data.workers": (3, 4, 5),
    "train.backbone_weights": ("a.pth", "b.pth", "imagenet"),
    "train.init_from": ("a.pth", "b.pth", "c.pth"),
    "train.epochs": (3, 4, 5),
    "train.max_steps": (3, 4, 5),
    "train.precision": ("tf32", "bf16", "fp32"),
    "seed": (5, 6, 7),
}
"""Values for --config, --set and the option."""


@dataclass(frozen=True)
class Case:
    """One way to call a command.

    Attributes:
        command: words after `sparsevod`.
        arguments: required arguments.
        default: settings without any option.
        options: settings that an option sets, by the name of its parameter.
        others: names of parameters without a setting.
        has_config: whether --config can be used in this call.
    """

    command: str
    arguments: tuple[str, ...]
    default: Config
    options: dict[str, str]
    others: str
    has_config: bool = True


USE = {
    "num_supports": "inference.supports",
    "support_mode": "inference.support",
    "seed": "seed",
}
DATA = {
    "annotations": "data.train_annotations",
    "root": "data.train_root",
    "val": "data.val_annotations",
    "val_root": "data.val_root",
}
LENGTH = {"epochs": "train.epochs", "max_steps": "train.max_steps"}
BENCH = {
    "size": "data.short_side data.long_side",
    "num_supports": "inference.supports",
    "batch": "inference.batch",
    "precision": "inference.precision",
    "plain": "inference.fast",
    "compile_": "inference.compile",
    "seed": "seed",
}
LOADER = {
    "annotations": "data.train_annotations",
    "root": "data.train_root",
    "workers": "data.workers",
    "seed": "seed",
}
# --backbone chooses a preset, which --config and --set override.
EVERYWHERE = "config_file overrides device cache json_out"
OF_BENCH = (
    "checkpoint system backbone against repeats warmup config overrides device cache json_out"
)
OF_LOADER = "backbone steps warmup config overrides device json_out"
OF_TRAIN = (
    f"{EVERYWHERE} run_folder system backbone gpus nodes rendezvous rendezvous_timeout max_restarts"
)

OF_REPRODUCE = (
    "annotations root val val_root choose_by choose_root backbone cache seeds tables only pretrain "
    "pretrained output config overrides row_overrides gpus device dry_run tables_only"
)

CASES = {
    "detect": Case(
        "detect",
        ("a.mp4", "--checkpoint", "some.pth"),
        STORED.replace({"inference.precision": "auto"}),
        {
            **USE,
            "batch": "inference.batch",
            "precision": "inference.precision",
            "compile_": "inference.compile",
        },
        f"{EVERYWHERE} videos output checkpoint score classes max_boxes hide_labels blur compare "
        "frame_size scale codec crf bitrate no_video jsonl csv coco coco_vid mot yolo "
        "annotations root crop track resume gpus shard duration_s patience_s",
    ),
    "eval": Case(
        "eval",
        ("some.pth",),
        STORED,
        {
            **USE,
            "batch": "inference.batch",
            "annotations": "data.val_annotations",
            "root": "data.val_root",
        },
        f"{EVERYWHERE} checkpoint from_predictions save_predictions resume gpus figures clip "
        "limit_videos",
    ),
    "visualize-stages": Case(
        "visualize-stages",
        ("a.mp4", "--checkpoint", "some.pth"),
        STORED,
        USE,
        f"{EVERYWHERE} video output checkpoint frames num_frames stages score",
    ),
    "train": Case(
        "train",
        (),
        Config(),
        {
            **DATA,
            **LENGTH,
            "backbone_weights": "train.backbone_weights",
            "init_from": "train.init_from",
            "seed": "seed",
        },
        f"{OF_TRAIN} output resume",
    ),
    "train --resume": Case(
        "train", ("--resume", "run"), STORED, {**DATA, **LENGTH}, "", has_config=False
    ),
    "bench": Case(
        "bench",
        ("--checkpoint", "some.pth"),
        conditions(STATED).replace({"inference.supports": STORED.inference.supports}),
        BENCH,
        OF_BENCH,
    ),
    "bench --backbone": Case("bench", ("--backbone", "tiny"), conditions(STATED), BENCH, OF_BENCH),
    "bench data": Case("bench data", (), Config(), LOADER, OF_LOADER),
    "bench train": Case(
        "bench train", (), Config(), {**LOADER, "precision": "train.precision"}, OF_LOADER
    ),
    # It passes its options to `train` and `eval`.
    "reproduce": Case("reproduce", (), Config(), {}, OF_REPRODUCE),
}


def commands(group: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    for word, command in getattr(group, "commands", {}).items():
        yield f"{name} {word}".strip(), command
        yield from commands(command, f"{name} {word}")


ROOT = typer.main.get_command(app)
COMMANDS = dict(commands(ROOT))


def test_every_option_of_every_command_that_takes_settings_is_here() -> None:
    takes_settings = {
        name for name, one in COMMANDS.items() if any("--set" in item.opts for item in one.params)
    }
    assert takes_settings == {case.command for case in CASES.values()}
    for name in takes_settings:
        here = {*CASES[name].options, *CASES[name].others.split()}
        assert here == {item.name for item in COMMANDS[name].params}, name


class Arrived(Exception):  # noqa: N818
    """Raised with the settings when they reach the core."""

    def __init__(self, config: Config) -> None:
        self.config = config


@pytest.fixture(autouse=True)
def no_models(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Let the core raise `Arrived`, and create the files that commands check."""
    monkeypatch.chdir(tmp_path)
    for name in ("train", "val"):
        file = Path(f"data/imagenet_vid/{name}.json")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("{}")
    for name in ("a.json", "b.json", "c.json", "stored.json", "a.mp4"):
        Path(name).write_text("{}")
    Path("run/checkpoints").mkdir(parents=True)
    Path("run/checkpoints/last.pth").touch()
    Path("run/config.yaml").write_text(STORED.to_yaml())

    def from_checkpoint(*_: Any, overrides: list[str], **__: Any) -> None:
        raise Arrived(STORED.replace(override_pairs(overrides)))

    def launch_on(_: Any, __: Any, function: Any, *args: Any, **options: Any) -> Any:
        if isinstance(args[0], Config):
            raise Arrived(args[0])
        return function(*args, **options)

    def measure(config: Config, **_: Any) -> None:
        raise Arrived(config)

    def benchmark(_: Any, measured: bench.BenchmarkSettings, **__: Any) -> None:
        raise Arrived(conditions(measured))

    monkeypatch.setattr(Predictor, "from_checkpoint", from_checkpoint)
    monkeypatch.setattr(launch, "launch_on", launch_on)
    monkeypatch.setattr(bench, "benchmark", benchmark)
    monkeypatch.setattr(bench_data, "benchmark_data", measure)
    monkeypatch.setattr(bench_train, "benchmark_training", measure)
    monkeypatch.setattr(build, "build_detector", lambda _: None)
    stored = SimpleNamespace(config=STORED)
    monkeypatch.setattr(checkpoint, "load_detector", lambda *_, **__: (None, stored))


def config_of(*words: str) -> Config:
    """Return the settings that reach the core."""
    with pytest.raises(Arrived) as arrived:
        ROOT.main(list(words), standalone_mode=False)
    return arrived.value.config


def values_in(config: Config, keys: list[str]) -> list[Any]:
    return [attrgetter(key)(config) for key in keys]


def option_words(case: Case, parameter: str, values: list[Any]) -> list[str]:
    (option,) = (item for item in COMMANDS[case.command].params if item.name == parameter)
    value = "x".join(map(str, values))
    return [option.opts[0]] if option.is_flag else [option.opts[0], value]


@pytest.mark.parametrize(
    ("name", "parameter"),
    [(name, parameter) for name, case in CASES.items() for parameter in case.options],
)
def test_option_then_set_then_config_then_default(name: str, parameter: str) -> None:
    case = CASES[name]
    keys = case.options[parameter].split()
    in_file, in_set, in_option = map(list, zip(*(VALUES[key] for key in keys), strict=True))
    words = [*case.command.split(), *case.arguments]
    assert values_in(config_of(*words), keys) == values_in(case.default, keys)
    if case.has_config:
        tree: dict[str, Any] = {}
        for key, value in zip(keys, in_file, strict=True):
            section, _, leaf = key.rpartition(".")
            (tree.setdefault(section, {}) if section else tree)[leaf] = value
        Path("mine.yaml").write_text(yaml.safe_dump(tree))
        words += ["--config", "mine.yaml"]
        assert values_in(config_of(*words), keys) == in_file
    for key, value in zip(keys, in_set, strict=True):
        words += ["--set", f"{key}={value}"]
    assert values_in(config_of(*words), keys) == in_set
    words += option_words(case, parameter, in_option)
    assert values_in(config_of(*words), keys) == in_option


@pytest.mark.parametrize(
    ("words", "support"),
    [
        ((), "causal"),
        (("--set", "inference.support=window"), "window"),
        (("--set", "inference.support = uniform"), "uniform"),
        (("--config", "mine.yaml"), "window"),
        (("--set", "inference.support=window", "--support-mode", "uniform"), "uniform"),
    ],
)
def test_a_stream_has_causal_supports_where_nobody_says_otherwise(
    words: tuple[str, ...], support: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("mine.yaml").write_text("inference:\n  support: window\n")
    stream = ("detect", "tcp://127.0.0.1:9/", "--checkpoint", "some.pth")
    assert config_of(*stream, *words).inference.support == support
    assert ("a stream has no future frames" in capsys.readouterr().err) == (support == "causal")


@pytest.mark.parametrize(
    "words", [("detect", "a.mp4"), ("eval",), ("visualize-stages", "a.mp4"), ("bench",)]
)
def test_old_names_of_options_work_with_a_notice(
    words: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert config_of(*words, "--supports=3").inference.supports == 3
    notice = "--supports is deprecated, use --num-supports"
    assert capsys.readouterr().err.count(notice) == 1
    assert config_of(*words, "--num-supports", "3").inference.supports == 3
    assert "deprecated" not in capsys.readouterr().err
    if words[0] != "bench":
        assert config_of(*words, "--support", "window").inference.support == "window"
        assert "--support is deprecated, use --support-mode" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words", [("--set", "data.val_annotations=b.json"), ("--annotations", "b.json")]
)
def test_a_set_that_is_named_has_not_the_root_of_the_one_that_is_recorded(
    words: tuple[str, ...],
) -> None:
    assert config_of("eval", "some.pth", *words).data.val_root is None
    assert config_of("eval", "some.pth").data.val_root == "stored"
    assert config_of("eval", "some.pth", *words, "--set", "data.val_root=b").data.val_root == "b"


def test_bench_says_its_defaults() -> None:
    texts = {item.name: item.help for item in COMMANDS["bench"].params}
    assert texts["size"].endswith("default: {}x{}.".format(*STATED.size))
    assert texts["num_supports"].endswith("default: the model's.")
    assert texts["batch"].endswith(f"default: {STATED.batch}.")
    assert texts["precision"].endswith(f"default: {STATED.precision}.")
