"""Options that several commands share, each stated once."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from sparsevod_core.errors import ConfigError
from sparsevod_core.reporting import Reporter

DEFAULT_BACKBONE = "r50"

CheckpointFile = Annotated[
    Path | None,
    typer.Option(
        "--checkpoint", help="The model: ours, MMDetection's, the original's; else the embedded."
    ),
]
ConfigFile = Annotated[
    Path | None,
    typer.Option("--config", help="YAML file with settings; overrides the preset."),
]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", help="One setting, e.g. --set train.epochs=1; may be repeated."),
]
Seed = Annotated[
    int | None,
    typer.Option("--seed", help="Seed of every random choice; recorded in the output."),
]
Device = Annotated[str, typer.Option("--device", help="auto, cpu, cuda or cuda:N.")]
Supports = Annotated[
    int | None,
    typer.Option("--supports", help="Support frames of each target; 0: each frame alone."),
]
Support = Annotated[
    str | None,
    typer.Option("--support", help="Where they come from: uniform, window or causal."),
]
Batch = Annotated[
    int | None,
    typer.Option(
        "--batch",
        help="Frames of a video that go through the model together; default: 16 on a GPU, else 1.",
    ),
]
Precision = Annotated[
    str | None,
    typer.Option(
        "--precision",
        help="fp32, tf32 (a GPU's faster fp32), bf16, or auto (the default): bf16 where the "
        "hardware computes with it.",
    ),
]
Compile = Annotated[
    str | None,
    typer.Option(
        "--compile",
        help="Compile the model: auto (only where the video is long enough to pay it back), on or "
        "off.",
    ),
]
JsonOut = Annotated[
    Path | None,
    typer.Option("--json", help="Write the machine-readable result here (- for stdout)."),
]


def named_or_embedded(checkpoint: Path | None, reporter: Reporter) -> Path:
    """The checkpoint that was named; else the embedded one, and what it is is said."""
    if checkpoint is not None:
        return checkpoint
    from sparsevod_core.checkpoint import load_checkpoint
    from sparsevod_core.embedded import embedded_card, embedded_checkpoint

    path = embedded_checkpoint()
    names = [category.name for category in load_checkpoint(path).categories]
    reporter.message(
        f"no checkpoint is named: the embedded model is used ({len(names)} classes: "
        f"{', '.join(names)}; its card: {embedded_card()})"
    )
    return path


def overrides_with(
    overrides: list[str] | None,
    seed: int | None = None,
    *,
    config_file: Path | None = None,
    defaults: Mapping[str, object] | None = None,
    **settings: object,
) -> list[str]:
    """Defaults, `--config`, `--set`, then the options that were given: the last wins.

    Args:
        overrides: what `--set` gave.
        seed: what `--seed` gave.
        config_file: what `--config` gave.
        defaults: by dotted key, what the command sets where nobody says otherwise.
        settings: what other options gave, None where one was not given. Keys use two underscores
            for the dot: `train__epochs=3` becomes `train.epochs=3`.
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
