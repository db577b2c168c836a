"""`sparsevod bench`: time inference, data loading and training steps, part by part."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sparsevod_cli import console
from sparsevod_cli.options import (
    DEFAULT_BACKBONE,
    Cache,
    CheckpointFile,
    Compile,
    ConfigFile,
    Device,
    JsonOut,
    Overrides,
    Precision,
    Seed,
    System,
    overrides_with,
    parse_size,
)
from sparsevod_core.errors import ConfigError
from sparsevod_core.reporting import counted

if TYPE_CHECKING:
    from sparsevod_core.benchmark.inference import BenchmarkSettings
    from sparsevod_core.config import Config
    from sparsevod_core.model.video_detector import VideoDetector
    from sparsevod_core.reporting import Reporter

app = typer.Typer(
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def bench(
    context: typer.Context,
    checkpoint: CheckpointFile = None,
    system: System = None,
    backbone: Annotated[
        str | None,
        typer.Option(
            "--backbone",
            help="Preset to time with random weights: tiny, lite0, r50, r101 or x101.",
        ),
    ] = None,
    size: Annotated[
        str | None, typer.Option("--size", help="Frame size as HEIGHTxWIDTH; default: 600x1000.")
    ] = None,
    num_supports: Annotated[
        int | None,
        typer.Option("--num-supports", help="Number of support frames; default: the model's."),
    ] = None,
    batch: Annotated[
        int | None,
        typer.Option(
            "--batch", help="Number of frames that go through the model together; default: 1."
        ),
    ] = None,
    precision: Precision = None,
    plain: Annotated[
        bool, typer.Option("--plain", help="Time the model as in training, without optimizations.")
    ] = False,
    compile_: Compile = None,
    against: Annotated[
        list[str] | None,
        typer.Option(
            "--against",
            help="Also time plain (ours without optimizations, fp32), torchvision (its detectors), "
            "or one of them; repeatable.",
        ),
    ] = None,
    repeats: Annotated[int, typer.Option("--repeats", help="Number of timed runs per model.")] = 10,
    warmup: Annotated[int, typer.Option("--warmup", help="Number of untimed runs.")] = 2,
    config: ConfigFile = None,
    overrides: Overrides = None,
    seed: Seed = None,
    device: Device = "auto",
    cache: Cache = None,
    json_out: JsonOut = None,
) -> None:
    """Time inference, part by part, and compare it with other detectors.

    The model is that of --checkpoint, by default the bundled one. With --system, --backbone or
    --config it is built with random weights. Random frames of the given size enter the model
    without resizing. Size (data.short_side, data.long_side), support frames, batch and precision
    can also be set with --config and --set; the options override them. What is kept of a video is
    computed before, as after many frames: the support memory, whose time is reported separately,
    and the state of mamba and mega. Operations per frame are counted in the model without
    optimizations, with all of that kept, and as the published code runs it, which computes more
    for every frame.

    Keys of --json: schema ("sparsevod.bench/1"), seconds_per_frame (median, min, p95),
    frames_per_second, parts (by name: median, min, p95, in seconds per frame), gflop_per_frame
    (kept, published: null without published code), first_box_seconds (preparing the model, support
    frames, one target frame), memory_seconds, memory_mib (of all support frames), kept_mib (memory,
    state, encodings of support frames that may be targets, total), parameters, against (by name:
    seconds_per_frame, parameters, times_as_long), peak_memory_mib (of the GPU, or of the process on
    a CPU), settings, run (version, device, precision, threads), machine, model (config, and
    checkpoint or weights; the bundled checkpoint is "embedded").

    Example: sparsevod bench --system selsa --backbone r50 --size 600x1000 --against torchvision
    """
    if context.invoked_subcommand is not None:
        return
    from sparsevod_core.benchmark.inference import (
        BASELINES,
        SCHEMA,
        BenchmarkSettings,
        benchmark,
    )
    from sparsevod_core.inference import resolve_device
    from sparsevod_core.inference.support_frames import SupportPlan

    console.check_outputs(
        json_out, SCHEMA, {"the checkpoint": checkpoint, "the configuration file": config}
    )
    if checkpoint is not None and (backbone is not None or system is not None):
        other = "--backbone" if backbone is not None else "--system"
        raise ConfigError(f"bench: expected --checkpoint or {other}, got both")
    names = [n for name in against or [] for n in (BASELINES if name == "torchvision" else [name])]
    from sparsevod_cli.progress import ConsoleReporter

    reporter = ConsoleReporter()
    settings = overrides_with(
        overrides,
        seed,
        config_file=config,
        defaults=_default_settings(BenchmarkSettings()),
        inference__supports=num_supports,
        inference__batch=batch,
        inference__precision=precision,
        inference__fast=False if plain else None,
        inference__compile=compile_,
    )
    is_built = system is not None or backbone is not None or config is not None
    if is_built and checkpoint is None:
        detector, resolved, described = _random(system, backbone, settings)
    else:
        detector, resolved, described = _trained(checkpoint, settings, reporter)
    if size is not None:
        short_side, long_side = sorted(parse_size(size))
        sides = {"data.short_side": short_side, "data.long_side": long_side}
        resolved = resolved.replace(sides)
    inference, data = resolved.inference, resolved.data
    plan = SupportPlan.of(resolved)
    result = benchmark(
        detector,
        BenchmarkSettings(
            size=parse_size(size) if size else (data.short_side, data.long_side),
            supports=plan.supports,
            global_supports=plan.global_supports,
            batch=inference.batch or 1,
            precision=inference.precision,
            fast=inference.fast,
            compile=inference.compile,
            repeats=repeats,
            warmup=warmup,
            seed=resolved.seed,
            pad_multiple=resolved.data.pad_multiple,
            resize=resolved.data.resize,
        ),
        device=resolve_device(device),
        against=list(dict.fromkeys(names)),
        config=resolved,
        reporter=reporter,
    )
    result["model"] = described
    _output(result, _show, json_out)


_Annotations = Annotated[
    Path | None,
    typer.Option(
        "--annotations", help="COCO-VID JSON to train on; default: data/imagenet_vid/train.json."
    ),
]
_Root = Annotated[
    Path | None,
    typer.Option("--root", help="Folder of the frames; default: the folder recorded in the JSON."),
]
_Preset = Annotated[
    str | None,
    typer.Option("--backbone", help="Preset: tiny, lite0, r50, r101 or x101; default: r50."),
]
_Workers = Annotated[
    int | None,
    typer.Option(
        "--workers",
        help="Number of loader processes; 0: load in the training process; default: the preset's.",
    ),
]
_Warmup = Annotated[int, typer.Option("--warmup", help="Number of untimed steps before them.")]


@app.command("data")
def data(
    annotations: _Annotations = None,
    root: _Root = None,
    backbone: _Preset = None,
    workers: _Workers = None,
    steps: Annotated[int, typer.Option("--steps", help="Number of timed batches and steps.")] = 30,
    warmup: _Warmup = 5,
    config: ConfigFile = None,
    overrides: Overrides = None,
    seed: Seed = None,
    device: Device = "auto",
    json_out: JsonOut = None,
) -> None:
    """Time the data loader, and how long training steps wait for it.

    Clips are loaded and augmented as by `sparsevod train`, first without training, then for real
    training steps of a model with random weights.

    Keys of --json: schema ("sparsevod.bench-data/1"), loader (clips_per_second, seconds_per_batch),
    training (clips_per_second, seconds_per_step, wait_seconds_per_step, data_wait_share), clips,
    settings, peak_memory_mib, run (version, device, precision, threads, seed,
    settings), machine.

    Example: sparsevod bench data --annotations train.json --root frames --backbone tiny --workers 2
    """
    from sparsevod_cli.progress import ConsoleReporter
    from sparsevod_core.benchmark.data import SCHEMA, benchmark_data
    from sparsevod_core.config import load_config
    from sparsevod_core.inference import resolve_device

    console.check_outputs(
        json_out, SCHEMA, {"the annotation file": annotations, "the configuration file": config}
    )
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
    _output(result, _show_data, json_out)


@app.command("train")
def train(
    annotations: _Annotations = None,
    root: _Root = None,
    backbone: _Preset = None,
    workers: _Workers = None,
    precision: Annotated[
        str | None, typer.Option("--precision", help="fp32, tf32 or bf16; default: the preset's.")
    ] = None,
    steps: Annotated[int, typer.Option("--steps", help="Number of timed steps.")] = 30,
    warmup: _Warmup = 5,
    config: ConfigFile = None,
    overrides: Overrides = None,
    seed: Seed = None,
    device: Device = "auto",
    json_out: JsonOut = None,
) -> None:
    """Time training steps, part by part, in one process and with random weights.

    Entire steps are timed first, as in training. Then as many steps are timed in parts, with the
    device synchronized after each part, so that on a GPU the parts add up to more than a step.

    Keys of --json: schema ("sparsevod.bench-train/1"), clips_per_second, seconds_per_step,
    data_wait_share, parts (data_wait, forward, matching, loss, backward, optimiser: median, min
    and p95 in seconds per step, and share of all parts), peak_memory_mib (of the GPU, or of the
    process on a CPU), clips, settings, run (version, device, precision, threads, seed,
    settings), machine.

    Example: sparsevod bench train --annotations train.json --root frames --precision bf16
    """
    from sparsevod_cli.progress import ConsoleReporter
    from sparsevod_core.benchmark.train import SCHEMA, benchmark_training
    from sparsevod_core.config import load_config
    from sparsevod_core.inference import resolve_device

    console.check_outputs(
        json_out, SCHEMA, {"the annotation file": annotations, "the configuration file": config}
    )
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
    _output(result, _show_training, json_out)


def _output(
    result: dict[str, Any], show: Callable[[dict[str, Any]], None], json_out: Path | None
) -> None:
    """Write the JSON, and print the result as a table, unless the JSON goes to stdout."""
    if json_out is not None:
        console.write_json(json_out, result)
    if str(json_out) != "-":
        show(result)


def _default_settings(settings: BenchmarkSettings) -> dict[str, object]:
    """Return the default conditions of `bench` as settings."""
    short_side, long_side = settings.size
    return {
        "data.short_side": short_side,
        "data.long_side": long_side,
        "inference.batch": settings.batch,
        "inference.precision": settings.precision,
        "inference.fast": settings.fast,
        "inference.compile": settings.compile,
        "seed": settings.seed,
    }


def _trained(
    checkpoint: Path | None, settings: list[str], reporter: Reporter
) -> tuple[VideoDetector, Config, dict[str, Any]]:
    """Load the detector of a checkpoint or the bundled one; also describe it for the result."""
    from sparsevod_core.checkpoint import load_detector
    from sparsevod_core.config import override_pairs
    from sparsevod_core.embedded import checkpoint_name, embedded_checkpoint

    detector, loaded = load_detector(checkpoint, reporter=reporter)
    config = loaded.config.replace(override_pairs(settings))
    if config.model != loaded.config.model:
        of_model = ", ".join(text for text in settings if text.startswith("model."))
        raise ConfigError(
            f"{of_model}: cannot change a trained model",
            hint="use --backbone NAME to build one with these settings and random weights",
        )
    name = checkpoint_name(checkpoint or embedded_checkpoint())
    described = {"checkpoint": name, "config": config.to_dict()["model"]}
    return detector, config, described


def _random(
    system: str | None, backbone: str | None, settings: list[str]
) -> tuple[VideoDetector, Config, dict[str, Any]]:
    """Build a detector with seeded random weights; also describe it for the result."""
    import torch

    from sparsevod_core.config import load_config
    from sparsevod_core.model.build import build_detector

    config = load_config(backbone or DEFAULT_BACKBONE, overrides=settings, system=system)
    torch.manual_seed(config.seed)
    described = {
        "weights": f"random, seed {config.seed}",
        "config": config.to_dict()["model"],
    }
    return build_detector(config.model), config, described


def _row(name: str, times: dict[str, float]) -> list[str]:
    return [name, *(f"{1000 * times[key]:.1f}" for key in ("median", "min", "p95"))]


def _show(result: dict[str, Any]) -> None:
    rows = [_row("this model", result["seconds_per_frame"])]
    rows += [_row(f"  {name}", times) for name, times in result["parts"].items()]
    rows += [
        _row(f"{name} ({entry['times_as_long']:.2f} times as long)", entry["seconds_per_frame"])
        for name, entry in result["against"].items()
    ]
    console.table("milliseconds per frame", ["", "median", "min", "p95"], rows)
    settings, run, gflop = result["settings"], result["run"], result["gflop_per_frame"]
    published = gflop["published"]
    console.say(
        f"{gflop['kept']:.0f} GFLOP per frame"
        + ("" if published is None else f" ({published:.0f} as the published code runs it)")
        + f"; kept for a video: {result['kept_mib']['total']:.0f} MiB"
    )
    console.say(
        f"{result['frames_per_second']:.2f} frames/s on {run['device']} "
        f"({counted(run['threads'], 'thread')}, {run['precision']}); memory of "
        f"{counted(settings['supports'], 'support frame')}: {result['memory_seconds']:.2f} s, "
        f"{result['memory_mib']:.1f} MiB; peak {result['peak_memory_mib']:.0f} MiB"
    )


def _show_data(result: dict[str, Any]) -> None:
    loader, training, settings = result["loader"], result["training"], result["settings"]
    console.table(
        f"milliseconds per step ({settings['clips_per_step']} clips of "
        f"{settings['frames_per_clip']} frames, {settings['workers']} loader processes)",
        ["", "median", "min", "p95"],
        [
            _row("loading only", loader["seconds_per_batch"]),
            _row("training step", training["seconds_per_step"]),
            _row("  waiting for data", training["wait_seconds_per_step"]),
        ],
    )
    console.say(
        f"{loader['clips_per_second']:.1f} clips/s loading only, "
        f"{training['clips_per_second']:.1f} training on {result['run']['device']}; "
        f"{training['data_wait_share']:.1%} of a step is spent waiting for data"
    )


def _show_training(result: dict[str, Any]) -> None:
    rows = [
        [*_row(f"  {name.replace('_', ' ')}", times), f"{times['share']:.1%}"]
        for name, times in result["parts"].items()
    ]
    settings = result["settings"]
    console.table(
        f"milliseconds per step ({settings['clips_per_step']} clips of "
        f"{settings['frames_per_clip']} frames, {settings['precision']})",
        ["", "median", "min", "p95", "share"],
        [[*_row("training step", result["seconds_per_step"]), ""], *rows],
    )
    console.say(
        f"{result['clips_per_second']:.1f} clips/s on {result['run']['device']}; "
        f"{result['data_wait_share']:.1%} of a step is spent waiting for data; "
        f"peak {result['peak_memory_mib']:.0f} MiB"
    )
