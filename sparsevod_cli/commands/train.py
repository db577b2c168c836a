"""`sparsevod train`: from annotated videos to a checkpoint."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sparsevod_cli import console
from sparsevod_cli.options import (
    DEFAULT_BACKBONE,
    ConfigFile,
    Device,
    JsonOut,
    Overrides,
    Seed,
    overrides_with,
)
from sparsevod_core.errors import ConfigError
from sparsevod_core.reporting import Reporter, SilentReporter

if TYPE_CHECKING:
    from sparsevod_core.config import Config

MAX_RESTARTS = 3
SCHEMA = "sparsevod.train/1"


def train(
    run_folder: Annotated[
        Path | None,
        typer.Argument(help="With --resume: the run to go on with; else the last one in runs/."),
    ] = None,
    annotations: Annotated[
        Path | None,
        typer.Option("--annotations", help="COCO-VID JSON; else data/imagenet_vid/train.json."),
    ] = None,
    root: Annotated[
        Path | None,
        typer.Option("--root", help="Folder that its file names start from."),
    ] = None,
    val: Annotated[
        Path | None,
        typer.Option("--val", help="Annotations to measure AP on, and to choose best.pth by."),
    ] = None,
    val_root: Annotated[
        Path | None,
        typer.Option("--val-root", help="Folder that the file names of --val start from."),
    ] = None,
    backbone: Annotated[
        str | None,
        typer.Option("--backbone", help="Preset: tiny, r50, r101 or x101; else r50."),
    ] = None,
    backbone_weights: Annotated[
        str | None,
        typer.Option("--backbone-weights", help="imagenet (downloaded), none, or a file."),
    ] = None,
    init_from: Annotated[
        Path | None,
        typer.Option(
            "--init-from",
            help="Checkpoint to start from: ours, MMDetection's or the original Sparse R-CNN.",
        ),
    ] = None,
    gpus: Annotated[
        int | None,
        typer.Option("--gpus", help="Processes to start, one for each GPU of a machine."),
    ] = None,
    nodes: Annotated[
        int, typer.Option("--nodes", help="Machines; each runs this same command.")
    ] = 1,
    rendezvous: Annotated[
        str | None,
        typer.Option("--rendezvous", help="HOST:PORT to meet at; HOST is one of them."),
    ] = None,
    rendezvous_timeout: Annotated[
        int, typer.Option("--rendezvous-timeout", help="Seconds to wait for all machines.")
    ] = 600,
    max_restarts: Annotated[
        int | None,
        typer.Option(
            "--max-restarts",
            help="How often to go on from last.pth when a process is lost; else 3 with several.",
        ),
    ] = None,
    epochs: Annotated[int | None, typer.Option("--epochs", help="Length of the run.")] = None,
    max_steps: Annotated[
        int | None, typer.Option("--max-steps", help="Stop there, whatever --epochs says.")
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", help="Run folder to make; else runs/BACKBONE-DATE-TIME."),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with a run that was cut off, or train longer.")
    ] = False,
    config_file: ConfigFile = None,
    overrides: Overrides = None,
    seed: Seed = None,
    device: Device = "auto",
    json_out: JsonOut = None,
) -> None:
    """Train a detector on annotated videos.

    The run folder gets config.yaml (all settings), metrics.jsonl (a JSON
    object per log and per evaluation), checkpoints/last.pth and best.pth.
    Ctrl-C ends the step and saves; --resume goes on exactly there. Prints
    the path of the checkpoint to use. The JSON has the keys schema, run,
    steps, seconds, checkpoint and best (step, AP, AP50 and AP75 of the best
    evaluation, or null).

    With --nodes every machine runs the same command, and the run folder is
    on a disk that they share. torchrun's and SLURM's variables are heeded:
    srun with a task for each GPU, or with a task for each machine and --gpus.
    Where a process is lost, all start again from last.pth and come to the
    same weights; what would fail again, such as a broken frame, ends the run.

    Example: sparsevod train --backbone r50 --gpus 8 --nodes 2 --rendezvous node01:29400

    Example: sparsevod train --annotations train.json --root frames --backbone tiny

    Example: sparsevod train --resume runs/tiny-20260101-120000
    """
    from sparsevod_cli.progress import ConsoleReporter

    reporter: Reporter = ConsoleReporter() if console.is_first_process() else SilentReporter()
    settings = overrides_with(
        overrides,
        seed,
        data__train_annotations=annotations,
        data__train_root=root,
        data__val_annotations=val,
        data__val_root=val_root,
        train__backbone_weights=backbone_weights,
        train__init_from=init_from,
        train__epochs=epochs,
        train__max_steps=max_steps,
    )
    if resume:
        if backbone or config_file or backbone_weights or init_from:
            raise ConfigError(
                "--resume takes model and recipe from the run: leave out --backbone, --config, "
                "--backbone-weights and --init-from"
            )
        config, output = _run_to_resume(run_folder or output, settings)
    else:
        if run_folder is not None:
            raise ConfigError(
                f"{run_folder}: only --resume takes a run folder",
                hint="--annotations FILE is what to train on, --output DIR where to",
            )
        from sparsevod_core.training.run_folder import fresh_run
        from sparsevod_core.training.settings import new_run_settings

        preset = backbone or DEFAULT_BACKBONE
        config = new_run_settings(preset, config_file, settings, reporter)
        output = output or fresh_run(preset)

    from sparsevod_core.distributed.launch import Processes, launch_on
    from sparsevod_core.training.run import train as train_detector

    if max_restarts is None:
        max_restarts = MAX_RESTARTS if (gpus or 1) * nodes > 1 else 0
    result = launch_on(
        Processes(gpus, device, nodes, rendezvous, max_restarts, rendezvous_timeout),
        reporter,
        train_detector,
        config,
        output,
        resume=resume,
        device=device,
        reporter=reporter,
    )
    if result is None or os.environ.get("RANK", "0") != "0":  # another process or machine tells
        return
    if json_out is not None:
        console.write_json(json_out, {"schema": SCHEMA, **result.to_dict()})
    if str(json_out) != "-":
        typer.echo(result.checkpoint)


def _run_to_resume(path: Path | None, settings: list[str]) -> tuple[Config, Path]:
    from sparsevod_core.training.run_folder import find_run
    from sparsevod_core.training.settings import resumed_settings

    run = find_run(path)
    return resumed_settings(run.config, settings), run.path
