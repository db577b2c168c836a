"""`sparsevod train`: train a detector on annotated videos."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from sparsevod_cli import console
from sparsevod_cli.options import (
    DEFAULT_BACKBONE,
    Cache,
    ConfigFile,
    Device,
    JsonOut,
    Overrides,
    Seed,
    System,
    overrides_with,
)
from sparsevod_core.errors import ConfigError
from sparsevod_core.reporting import Reporter, SilentReporter

MAX_RESTARTS = 3
SCHEMA = "sparsevod.train/1"


def train(
    run_folder: Annotated[
        Path | None,
        typer.Argument(
            metavar="RUN",
            help="Run folder to resume with --resume; default: the last one in runs/.",
        ),
    ] = None,
    annotations: Annotated[
        Path | None,
        typer.Option(
            "--annotations",
            help="COCO-VID JSON to train on; default: data/imagenet_vid/train.json.",
        ),
    ] = None,
    root: Annotated[
        Path | None,
        typer.Option(
            "--root", help="Folder of the frames; default: the folder recorded in the JSON."
        ),
    ] = None,
    val: Annotated[
        Path | None,
        typer.Option("--val", help="COCO-VID JSON to measure AP on and select best.pth by."),
    ] = None,
    val_root: Annotated[
        Path | None,
        typer.Option("--val-root", help="The same as --root, for --val."),
    ] = None,
    system: System = None,
    backbone: Annotated[
        str | None,
        typer.Option("--backbone", help="Preset: tiny, lite0, r50, r101 or x101; default: r50."),
    ] = None,
    backbone_weights: Annotated[
        str | None,
        typer.Option(
            "--backbone-weights",
            help="imagenet (downloaded; of lite0: of a package), none or a file; "
            "default: the preset's.",
        ),
    ] = None,
    init_from: Annotated[
        Path | None,
        typer.Option(
            "--init-from",
            help="Checkpoint to start from: ours, MMTracking's, MMDetection's or the original "
            "Sparse R-CNN's, or the name of published weights.",
        ),
    ] = None,
    gpus: Annotated[
        int | None,
        typer.Option("--gpus", help="Number of processes per machine, one per GPU."),
    ] = None,
    nodes: Annotated[
        int,
        typer.Option("--nodes", help="Number of machines; run the same command on each of them."),
    ] = 1,
    rendezvous: Annotated[
        str | None,
        typer.Option(
            "--rendezvous", help="HOST:PORT where the machines meet; HOST is one of them."
        ),
    ] = None,
    rendezvous_timeout: Annotated[
        int, typer.Option("--rendezvous-timeout", help="Seconds to wait for all machines.")
    ] = 600,
    max_restarts: Annotated[
        int | None,
        typer.Option(
            "--max-restarts",
            help="Number of restarts from last.pth after lost processes; default: 3 with several "
            "processes, otherwise 0.",
        ),
    ] = None,
    epochs: Annotated[
        int | None, typer.Option("--epochs", help="Number of epochs; default: the preset's.")
    ] = None,
    max_steps: Annotated[
        int | None,
        typer.Option("--max-steps", help="Stop after this many steps, regardless of --epochs."),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", help="Run folder to create; default: runs/SYSTEM-BACKBONE-DATE-TIME."
        ),
    ] = None,
    resume: Annotated[
        bool,
        typer.Option("--resume", help="Resume an interrupted run, or train a finished one longer."),
    ] = False,
    config_file: ConfigFile = None,
    overrides: Overrides = None,
    seed: Seed = None,
    device: Device = "auto",
    cache: Cache = None,
    json_out: JsonOut = None,
) -> None:
    """Train a detector on annotated videos.

    The run folder contains config.yaml (all settings), metrics.jsonl (one
    JSON object per start, with version, device and settings, per log line
    and per evaluation), checkpoints/last.pth and
    checkpoints/best.pth. Ctrl-C finishes the current step and saves;
    --resume continues from exactly there. The path of the checkpoint to use
    is printed. The JSON output has the keys schema, run, steps, seconds,
    checkpoint, chosen_by ("AP" or "last step") and best (step, AP, AP50 and
    AP75 of the best evaluation, or null if no evaluation has an AP, because
    no box of the validation set counts).

    With --nodes, run the same command on every machine, with the run folder
    on a shared disk. The variables of torchrun and SLURM are respected: use
    srun with one task per GPU, or with one task per machine and --gpus. If a
    process is lost, all processes restart from last.pth and arrive at the
    same weights. An error that would occur again, such as a corrupt frame,
    ends the run.

    Example: sparsevod train --backbone r50 --gpus 8 --nodes 2 --rendezvous node01:29400

    Example: sparsevod train --annotations train.json --root frames --backbone tiny

    Example: sparsevod train --system selsa --backbone r50 --gpus 8

    Example: sparsevod train --resume runs/tiny-20260101-120000
    """
    from sparsevod_cli.progress import ConsoleReporter

    reporter: Reporter = ConsoleReporter() if console.is_first_process() else SilentReporter()
    if console.is_first_process():
        from sparsevod_core.training.run_folder import RunFolder

        folder = run_folder or output
        inputs = {
            "the annotation file": annotations,
            "the validation annotation file": val,
            "the configuration file": config_file,
            "the checkpoint": init_from,
        }
        of_run = [] if folder is None else [(file, None) for file in RunFolder(folder).files()]
        if folder is not None and resume:
            # A run that was killed while it saved has one file under both names.
            of_run.remove((RunFolder(folder).previous, None))
        console.check_outputs(json_out, SCHEMA, inputs, of_run)
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
        if system or backbone or config_file or backbone_weights or init_from:
            raise ConfigError(
                "--resume uses the model and recipe of the run: remove --system, --backbone, "
                "--config, --backbone-weights and --init-from"
            )
        from sparsevod_core.training.run_folder import run_to_resume
        from sparsevod_core.training.settings import resumed_settings

        run = run_to_resume(run_folder or output)
        config, output = resumed_settings(run.config, settings), run.path
    else:
        if run_folder is not None:
            raise ConfigError(
                f"{run_folder}: a run folder needs --resume",
                hint="to start a new run, use --annotations FILE and --output DIR",
            )
        from sparsevod_core.training.run_folder import new_run_path
        from sparsevod_core.training.settings import new_run_settings

        preset = backbone or DEFAULT_BACKBONE
        config = new_run_settings(preset, config_file, settings, reporter, system=system)
        name = preset if config.model.system == "sparsevod" else f"{config.model.system}-{preset}"
        output = output or new_run_path(name)

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
    if result is None or os.environ.get("RANK", "0") != "0":  # another process prints it
        return
    if json_out is not None:
        console.write_json(json_out, {"schema": SCHEMA, **result.to_dict()})
    if str(json_out) != "-":
        console.out(result.checkpoint)
