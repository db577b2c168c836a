"""`sparsevod bench`: how long a frame takes, and in which part of the work."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sparsevod_cli import console
from sparsevod_cli.options import (
    DEFAULT_BACKBONE,
    CheckpointFile,
    Compile,
    ConfigFile,
    Device,
    JsonOut,
    Overrides,
    Precision,
    Seed,
    overrides_with,
    parse_size,
)
from sparsevod_core.errors import ConfigError

if TYPE_CHECKING:
    from sparsevod_core.benchmark.inference import BenchmarkSettings
    from sparsevod_core.config import Config
    from sparsevod_core.model.detector import SparseVOD
    from sparsevod_core.reporting import Reporter

app = typer.Typer(
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def bench(
    context: typer.Context,
    checkpoint: CheckpointFile = None,
    backbone: Annotated[
        str | None,
        typer.Option("--backbone", help="Time this preset with seeded random weights."),
    ] = None,
    size: Annotated[
        str | None, typer.Option("--size", help="Frame size, HEIGHTxWIDTH; else 600x1000.")
    ] = None,
    num_supports: Annotated[
        int | None, typer.Option("--num-supports", help="Support frames; else 6.")
    ] = None,
    batch: Annotated[
        int | None, typer.Option("--batch", help="Target frames per pass; else 1.")
    ] = None,
    precision: Precision = None,
    plain: Annotated[
        bool, typer.Option("--plain", help="The model as it is trained, every layer by itself.")
    ] = False,
    compile_: Compile = None,
    against: Annotated[
        list[str] | None,
        typer.Option(
            "--against", help="plain (ours, in fp32), torchvision, or one of its detectors."
        ),
    ] = None,
    repeats: Annotated[int, typer.Option("--repeats", help="Timed runs of each model.")] = 10,
    warmup: Annotated[int, typer.Option("--warmup", help="Runs before them.")] = 2,
    config: ConfigFile = None,
    overrides: Overrides = None,
    seed: Seed = None,
    device: Device = "auto",
    json_out: JsonOut = None,
) -> None:
    """Time the model, part by part; alone, or against itself without fast paths or torchvision's.

    It is --backbone's or --config's with random weights, or the one of --checkpoint, or, where none
    is named, the one that comes with the package. Frames are given at the size at which they enter
    the model (data.short_side x data.long_side without --size). What --config and --set say of
    them, of supports, batch and precision holds where the option is not given. The support memory
    is made once, as for a video; its time stands apart.

    Keys of --json: schema ("sparsevod.bench/1"), seconds_per_frame (median, min, p95),
    frames_per_second, parts (by name: median, min, p95, seconds of a frame), first_box_seconds
    (model made ready, supports, one frame), memory_seconds, memory_mib (of all supports),
    parameters, against (by name: seconds_per_frame, parameters, times_as_long), peak_memory_mib
    (of the GPU, else of the process), settings, run (version, device, precision, threads),
    machine, model (config, and checkpoint, "embedded" for the package's own, or weights: random).

    Example: sparsevod bench --backbone r50 --size 600x1000 --num-supports 6 --against torchvision
    """
    if context.invoked_subcommand is not None:
        return
    from sparsevod_core.benchmark.inference import YARDSTICKS, BenchmarkSettings, benchmark
    from sparsevod_core.inference import resolve_device

    if checkpoint is not None and backbone is not None:
        raise ConfigError("bench takes --checkpoint or --backbone, not both")
    names = [n for name in against or [] for n in (YARDSTICKS if name == "torchvision" else [name])]
    from sparsevod_cli.progress import ConsoleReporter

    reporter = ConsoleReporter()
    settings = overrides_with(
        overrides,
        seed,
        config_file=config,
        defaults=_stated(BenchmarkSettings()),
        inference__supports=num_supports,
        inference__batch=batch,
        inference__precision=precision,
        inference__fast=False if plain else None,
        inference__compile=compile_,
    )
    if backbone is not None or (config is not None and checkpoint is None):
        detector, resolved, described = _random(backbone, settings)
    else:
        detector, resolved, described = _trained(checkpoint, settings, reporter)
    inference, data = resolved.inference, resolved.data
    result = benchmark(
        detector,
        BenchmarkSettings(
            size=parse_size(size) if size else (data.short_side, data.long_side),
            supports=inference.supports,
            batch=inference.batch or 1,
            precision=inference.precision,
            fast=inference.fast,
            compile=inference.compile,
            repeats=repeats,
            warmup=warmup,
            seed=resolved.seed,
        ),
        device=resolve_device(device),
        against=list(dict.fromkeys(names)),
        reporter=reporter,
    )
    result["model"] = described
    _give(result, _show, json_out)


_Annotations = Annotated[
    Path | None,
    typer.Option("--annotations", help="COCO-VID JSON; else data/imagenet_vid/train.json."),
]
_Root = Annotated[
    Path | None, typer.Option("--root", help="Folder that its file names start from.")
]
_Preset = Annotated[
    str | None, typer.Option("--backbone", help="Preset: tiny, r50, r101 or x101; else r50.")
]
_Workers = Annotated[
    int | None, typer.Option("--workers", help="Loader processes; 0: the training process.")
]
_Warmup = Annotated[int, typer.Option("--warmup", help="Those before them.")]


@app.command("data")
def data(
    annotations: _Annotations = None,
    root: _Root = None,
    backbone: _Preset = None,
    workers: _Workers = None,
    steps: Annotated[int, typer.Option("--steps", help="Measured batches and steps.")] = 30,
    warmup: _Warmup = 5,
    config: ConfigFile = None,
    overrides: Overrides = None,
    seed: Seed = None,
    device: Device = "auto",
    json_out: JsonOut = None,
) -> None:
    """Clips per second of the loader, and the share of a training step spent waiting for it.

    Loads and augments clips as `sparsevod train` does: first alone, then for real training steps
    of a model with random weights.

    Keys of --json: schema ("sparsevod.bench-data/1"), loader (clips_per_second, seconds_per_batch),
    training (clips_per_second, seconds_per_step, wait_seconds_per_step, data_wait_share), clips,
    settings, peak_memory_mib, run (version, device, precision, threads), machine.

    Example: sparsevod bench data --annotations train.json --root frames --backbone tiny --workers 2
    """
    from sparsevod_cli.progress import ConsoleReporter
    from sparsevod_core.benchmark.data import benchmark_data
    from sparsevod_core.config import load_config
    from sparsevod_core.inference import resolve_device

    settings = overrides_with(
        overrides,
        seed,
        data__train_annotations=annotations,
        data__train_root=root,
        data__workers=workers,
    )
    result = benchmark_data(
        load_config(backbone or DEFAULT_BACKBONE, config, settings),
        device=resolve_device(device),
        steps=steps,
        warmup=warmup,
        reporter=ConsoleReporter(),
    )
    _give(result, _show_data, json_out)


@app.command("train")
def train(
    annotations: _Annotations = None,
    root: _Root = None,
    backbone: _Preset = None,
    workers: _Workers = None,
    precision: Annotated[
        str | None, typer.Option("--precision", help="fp32, tf32 or bf16; else the preset's.")
    ] = None,
    steps: Annotated[int, typer.Option("--steps", help="Measured steps.")] = 30,
    warmup: _Warmup = 5,
    config: ConfigFile = None,
    overrides: Overrides = None,
    seed: Seed = None,
    device: Device = "auto",
    json_out: JsonOut = None,
) -> None:
    """Where the time of a training step goes, in one process with a model of random weights.

    First whole steps, as they are in training; then as many in which the device is waited for
    after each part, so that a GPU's add up to more than a whole step.

    Keys of --json: schema ("sparsevod.bench-train/1"), clips_per_second, seconds_per_step,
    data_wait_share, parts (data_wait, forward, matching, loss, backward, optimiser: seconds of a
    step as median, min and p95, and share of all parts), peak_memory_mib (of the GPU, else of the
    process), clips, settings, run (version, device, precision, threads), machine.

    Example: sparsevod bench train --annotations train.json --root frames --precision bf16
    """
    from sparsevod_cli.progress import ConsoleReporter
    from sparsevod_core.benchmark.train import benchmark_training
    from sparsevod_core.config import load_config
    from sparsevod_core.inference import resolve_device

    settings = overrides_with(
        overrides,
        seed,
        data__train_annotations=annotations,
        data__train_root=root,
        data__workers=workers,
        train__precision=precision,
    )
    result = benchmark_training(
        load_config(backbone or DEFAULT_BACKBONE, config, settings),
        device=resolve_device(device),
        steps=steps,
        warmup=warmup,
        reporter=ConsoleReporter(),
    )
    _give(result, _show_training, json_out)


def _give(
    result: dict[str, Any], show: Callable[[dict[str, Any]], None], json_out: Path | None
) -> None:
    """As a table, unless standard output is for the JSON."""
    if str(json_out) != "-":
        show(result)
    if json_out is not None:
        console.write_json(json_out, result)


def _stated(settings: BenchmarkSettings) -> dict[str, object]:
    """The conditions of a measurement, as settings: where nobody says otherwise these hold."""
    short_side, long_side = settings.size
    return {
        "data.short_side": short_side,
        "data.long_side": long_side,
        "inference.supports": settings.supports,
        "inference.batch": settings.batch,
        "inference.precision": settings.precision,
        "inference.fast": settings.fast,
        "inference.compile": settings.compile,
        "seed": settings.seed,
    }


def _trained(
    checkpoint: Path | None, settings: list[str], reporter: Reporter
) -> tuple[SparseVOD, Config, dict[str, Any]]:
    """The detector that was named, or the embedded one, and what the result says about it."""
    from sparsevod_core.checkpoint import load_detector
    from sparsevod_core.config import override_pairs
    from sparsevod_core.embedded import checkpoint_name, embedded_checkpoint

    detector, loaded = load_detector(checkpoint, reporter=reporter)
    config = loaded.config.replace(override_pairs(settings))
    if config.model != loaded.config.model:
        of_model = ", ".join(text for text in settings if text.startswith("model."))
        raise ConfigError(
            f"{of_model}: a trained model is timed as it is",
            hint="with --backbone NAME it is built as set, with random weights",
        )
    name = checkpoint_name(checkpoint or embedded_checkpoint())
    described = {"checkpoint": name, "config": config.to_dict()["model"]}
    return detector, config, described


def _random(backbone: str | None, settings: list[str]) -> tuple[SparseVOD, Config, dict[str, Any]]:
    """The detector of a preset or a config with seeded weights, and what the result says of it."""
    import torch

    from sparsevod_core.config import load_config
    from sparsevod_core.model.build import build_detector

    config = load_config(backbone, overrides=settings)
    torch.manual_seed(config.seed)
    described = {
        "weights": f"random, seed {config.seed}",
        "config": config.to_dict()["model"],
    }
    return build_detector(config.model), config, described


def _show(result: dict[str, Any]) -> None:
    def row(name: str, times: dict[str, float]) -> list[str]:
        return [name, *(f"{1000 * times[key]:.1f}" for key in ("median", "min", "p95"))]

    rows = [row("this model", result["seconds_per_frame"])]
    rows += [row(f"  {name}", times) for name, times in result["parts"].items()]
    rows += [
        row(f"{name} ({entry['times_as_long']:.2f} times as long)", entry["seconds_per_frame"])
        for name, entry in result["against"].items()
    ]
    console.table("milliseconds per frame", ["", "median", "min", "p95"], rows)
    settings, run = result["settings"], result["run"]
    console.say(
        f"{result['frames_per_second']:.2f} frames/s on {run['device']} "
        f"({run['threads']} threads, {run['precision']}); memory of "
        f"{settings['supports']} supports: {result['memory_seconds']:.2f} s, "
        f"{result['memory_mib']:.1f} MiB; peak {result['peak_memory_mib']:.0f} MiB"
    )


def _show_data(result: dict[str, Any]) -> None:
    def row(name: str, times: dict[str, float]) -> list[str]:
        return [name, *(f"{1000 * times[key]:.1f}" for key in ("median", "min", "p95"))]

    loader, training, settings = result["loader"], result["training"], result["settings"]
    console.table(
        f"milliseconds, {settings['clips_per_step']} clips of {settings['frames_per_clip']} frames "
        f"a step, {settings['workers']} loader processes",
        ["", "median", "min", "p95"],
        [
            row("a batch, loading alone", loader["seconds_per_batch"]),
            row("a training step", training["seconds_per_step"]),
            row("  of it waiting for data", training["wait_seconds_per_step"]),
        ],
    )
    console.say(
        f"{loader['clips_per_second']:.1f} clips/s loading alone, "
        f"{training['clips_per_second']:.1f} in training on {result['run']['device']}; "
        f"{training['data_wait_share']:.1%} of a step waits for data"
    )


def _show_training(result: dict[str, Any]) -> None:
    rows = [
        [
            f"  {name.replace('_', ' ')}",
            *(f"{1000 * times[key]:.1f}" for key in ("median", "min", "p95")),
            f"{times['share']:.1%}",
        ]
        for name, times in result["parts"].items()
    ]
    whole, settings = result["seconds_per_step"], result["settings"]
    numbers = [f"{1000 * whole[key]:.1f}" for key in ("median", "min", "p95")]
    console.table(
        f"milliseconds, {settings['clips_per_step']} clips of {settings['frames_per_clip']} frames "
        f"a step, {settings['precision']}",
        ["", "median", "min", "p95", "share"],
        [["a training step", *numbers, ""], *rows],
    )
    console.say(
        f"{result['clips_per_second']:.1f} clips/s on {result['run']['device']}; "
        f"{result['data_wait_share']:.1%} of a step waits for data; "
        f"peak {result['peak_memory_mib']:.0f} MiB"
    )
