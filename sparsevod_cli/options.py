"""Command-line options that several commands share."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from sparsevod_cli import console
from sparsevod_core.errors import ConfigError

DEFAULT_BACKBONE = "r50"
RENAMED = {"support": "support-mode", "supports": "num-supports"}
"""Options of the previous release and their new names; remove them in the next release."""

CheckpointFile = Annotated[
    Path | None,
    typer.Option(
        "--checkpoint",
        help="Checkpoint: ours, MMTracking's, MMDetection's or the original Sparse R-CNN's, or the "
        "name of published weights (`sparsevod weights` lists them); default: the bundled model.",
    ),
]


def _use_cache(folder: Path | None) -> Path | None:
    """Let this process, and the processes that it starts, use a folder of downloaded weights."""
    if folder is not None:
        os.environ["SPARSEVOD_CACHE"] = str(folder)
    return folder


Cache = Annotated[
    Path | None,
    typer.Option(
        "--cache",
        metavar="DIR",
        callback=_use_cache,
        help="Folder of downloaded published weights; default: SPARSEVOD_CACHE, or else that of "
        "torch.hub. ImageNet weights of backbones are in torch.hub's, which TORCH_HOME sets.",
    ),
]
System = Annotated[
    str | None,
    typer.Option(
        "--system",
        help="sparsevod, selsa, troi, mamba, mega, transvod or fgfa; default: sparsevod.",
    ),
]
ConfigFile = Annotated[
    Path | None,
    typer.Option("--config", help="YAML file of settings to change."),
]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", help="Change a setting, e.g. --set model.tfe=off; repeatable."),
]
Seed = Annotated[
    int | None,
    typer.Option("--seed", help="Seed of all random choices; recorded in the output."),
]
Device = Annotated[str, typer.Option("--device", help="auto, cpu, cuda or cuda:N.")]
NumSupports = Annotated[
    int | None,
    typer.Option(
        "--num-supports",
        help="Number of support frames of each target frame; default: the checkpoint's setting.",
    ),
]
SupportMode = Annotated[
    str | None,
    typer.Option(
        "--support-mode",
        help="Choice of support frames: uniform (from the entire video), window (around the target "
        "frame), causal (before it), strided (as TransVOD) or mega (window and entire video); "
        "default: the checkpoint's setting.",
    ),
]
Batch = Annotated[
    int | None,
    typer.Option(
        "--batch",
        help="Number of frames that go through the model together; default: 16 on a GPU, "
        "otherwise 1.",
    ),
]
Precision = Annotated[
    str | None,
    typer.Option(
        "--precision",
        help="auto (bf16 if the hardware supports it), bf16, tf32 (faster fp32 on a GPU) or fp32; "
        "default: auto.",
    ),
]
Compile = Annotated[
    str | None,
    typer.Option(
        "--compile",
        help="Compile the model on a GPU: auto (if there are enough frames to make up for it), on "
        "or off; default: auto.",
    ),
]
JsonOut = Annotated[
    Path | None,
    typer.Option("--json", help="Write the results as JSON to this file (- for stdout)."),
]


def current_name(name: str) -> str:
    """Return the current name of an option or command, with a notice if it was renamed."""
    if name not in RENAMED:
        return name
    console.say(f"warning: --{name} is deprecated, use --{RENAMED[name]}")
    return RENAMED[name]


def overrides_with(
    overrides: list[str] | None,
    seed: int | None = None,
    *,
    config_file: Path | None = None,
    defaults: Mapping[str, object] | None = None,
    **settings: object,
) -> list[str]:
    """Return `key=value` texts: defaults, `--config`, `--set`, other options; the last one wins.

    Args:
        overrides: Values of `--set`.
        seed: Value of `--seed`.
        config_file: Value of `--config`.
        defaults: The command's own defaults by dotted key.
        settings: Values of other options, None if not given. Keys have two underscores for the
            dot: `train__epochs=3` becomes `train.epochs=3`.
    """
    texts = [f"{key}={value}" for key, value in (defaults or {}).items()]
    if config_file is not None:
        from sparsevod_core.config import file_overrides

        texts += file_overrides(config_file)
    texts += overrides or []
    for key, value in settings.items():
        if value is not None:
            texts.append(f"{key.replace('__', '.')}={value}")
    if seed is not None:
        texts.append(f"seed={seed}")
    return texts


def parse_size(text: str, option: str = "--size", form: str = "HEIGHTxWIDTH") -> tuple[int, int]:
    """Return the two numbers of a size such as `600x1000`, in the order of `form`.

    Raises:
        ConfigError: The text is not a size; the message names `option` and `form`.
    """
    first, _, second = text.partition("x")
    if not (first.isdigit() and second.isdigit() and int(first) and int(second)):
        raise ConfigError(f"{option} {text}: expected {form} in pixels, e.g. 600x1000")
    return int(first), int(second)
