"""`sparsevod reproduce`: the paper's tables on any annotated videos."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sparsevod_cli import console
from sparsevod_cli.options import DEFAULT_BACKBONE, Cache, ConfigFile, Device, Overrides
from sparsevod_core.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sparsevod_core.reproduce.experiment import Experiment, Run

app = typer.Typer(
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def reproduce(
    context: typer.Context,
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
        typer.Option(
            "--val",
            help="COCO-VID JSON to score every run on, once; default: data/imagenet_vid/val.json.",
        ),
    ] = None,
    val_root: Annotated[
        Path | None, typer.Option("--val-root", help="The same as --root, for --val.")
    ] = None,
    choose_by: Annotated[
        Path | None,
        typer.Option(
            "--choose-by",
            help="COCO-VID JSON of other videos to select the best checkpoint by; default: score "
            "the last one.",
        ),
    ] = None,
    choose_root: Annotated[
        Path | None,
        typer.Option("--choose-root", help="The same as --root, for --choose-by."),
    ] = None,
    backbone: Annotated[
        str | None,
        typer.Option("--backbone", help="Preset: tiny, lite0, r50, r101 or x101; default: r50."),
    ] = None,
    seeds: Annotated[
        str, typer.Option("--seeds", help="Train every model with these seeds, comma-separated.")
    ] = "0,1,2",
    tables: Annotated[
        str, typer.Option("--tables", help="Tables of the paper, comma-separated.")
    ] = "2,3,4,5",
    only: Annotated[
        str | None,
        typer.Option(
            "--only",
            help="Train only these models (names, comma-separated); --dry-run lists them.",
        ),
    ] = None,
    pretrain: Annotated[
        list[str] | None,
        typer.Option(
            "--pretrain",
            metavar="[NAME=]EPOCHS",
            help="Start all models from single-frame detectors, trained for EPOCHS epochs; "
            "repeatable, with NAME for one of baseline (Sparse R-CNN), faster-rcnn, "
            "faster-rcnn-c4 (of MEGA) and deformable-detr.",
        ),
    ] = None,
    pretrained: Annotated[
        list[str] | None,
        typer.Option(
            "--pretrained",
            metavar="[NAME=]FILE",
            help="Start models from this checkpoint or published weights of a single-frame "
            "detector: Sparse R-CNN, or NAME as for --pretrain; repeatable.",
        ),
    ] = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the results.")] = Path(
        "results"
    ),
    config: ConfigFile = None,
    overrides: Overrides = None,
    row_overrides: Annotated[
        list[str] | None,
        typer.Option(
            "--set-rows", help="Like --set, but not for the detector of --pretrain; repeatable."
        ),
    ] = None,
    gpus: Annotated[
        int | None, typer.Option("--gpus", help="Number of processes of every run, one per GPU.")
    ] = None,
    device: Device = "auto",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="List the runs and their state, but train nothing.")
    ] = False,
    tables_only: Annotated[
        bool,
        typer.Option("--tables-only", help="Write the tables of existing runs, but train nothing."),
    ] = False,
    cache: Cache = None,
) -> None:
    """Train and evaluate the paper's models, and write its Tables 1 to 5 and Figs. 4 and 5.

    Tables 2 to 5 are the ablations. Table 1 compares SparseVOD with six other systems.

    Run the same command again to resume an interrupted grid. RESULTS/CELL/seed-N keeps a few
    kilobytes of every run (config.yaml, metrics.jsonl, eval.json); runs that have them are not
    trained again, even without their checkpoints. tables.md, tables.json and the figures are
    updated after every run. Prints the path of tables.md.

    With --pretrain, the detectors that models start from are trained first, unless
    RESULTS/pretrained.pth (Sparse R-CNN) or RESULTS/pretrained-NAME.pth exists. TransVOD always
    starts from deformable-detr.

    Example: sparsevod reproduce --backbone r50 --gpus 8 -o results/imagenet_vid

    Example: sparsevod reproduce --tables 1 --backbone r50 --gpus 8 -o results/imagenet_vid

    Example: sparsevod reproduce --annotations train.json --val val.json --backbone tiny --seeds 0,1
    """
    if context.invoked_subcommand is not None:
        return
    from sparsevod_cli.child_process import run_command
    from sparsevod_cli.progress import ConsoleReporter
    from sparsevod_core.config import DataConfig
    from sparsevod_core.reproduce.experiment import CommandError, Experiment
    from sparsevod_core.reproduce.grid import tables as tables_of
    from sparsevod_core.reproduce.reproduce import describe, plan
    from sparsevod_core.reproduce.reproduce import reproduce as run_grid

    val = val or Path(DataConfig().val_annotations or "")
    choose = _options(val=choose_by, val_root=choose_root)
    experiment = Experiment(
        output=output,
        backbone=backbone or DEFAULT_BACKBONE,
        run_command=run_command,
        config_file=config,
        settings=tuple(overrides or ()),
        row_settings=tuple(row_overrides or ()),
        starts=_starts(pretrain or (), pretrained or ()),
        train_data=_options(annotations=annotations, root=root)
        + (choose or ("--set=data.val_annotations=none",)),
        eval_data=_options(annotations=val, root=val_root),
        machine=_options(gpus=gpus, device=device),
        chooses_best=bool(choose),
    )
    chosen = tables_of(experiment.config, _numbers("--tables", tables))
    seed_numbers = _numbers("--seeds", seeds)
    runs = plan(chosen, seed_numbers, None if only is None else only.split(","))
    if dry_run:
        _list_runs(experiment, runs)
        return
    failed = run_grid(
        experiment,
        chosen,
        runs,
        seeds=seed_numbers,
        about=describe(experiment, runs, num_processes=gpus or 1, scored_on=val.name),
        trains=not tables_only,
        speed_device=device,
        reporter=ConsoleReporter(),
    )
    console.out(output / "tables.md")
    if failed:
        raise CommandError(f"failed: {', '.join(failed)}", hint="run the same command to try again")


@app.command("hold-out")
def hold_out(
    annotations: Annotated[
        Path, typer.Argument(metavar="ANNOTATIONS", help="COCO-VID JSON to split.")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder to write to.")],
    share: Annotated[
        float, typer.Option("--share", min=0, max=1, help="Fraction of the videos to set aside.")
    ] = 0.1,
) -> None:
    """Set training videos aside for --choose-by: write OUTPUT/train.json and OUTPUT/choose.json.

    The choice depends only on the names of the videos, so it is the same each time.

    Example: sparsevod reproduce hold-out train.json -o held_out --share 0.1
    """
    from sparsevod_cli.progress import ConsoleReporter
    from sparsevod_core.reproduce.hold_out import hold_out as split

    split(annotations, output, share, ConsoleReporter())


def _list_runs(experiment: Experiment, runs: Sequence[Run]) -> None:
    states = [experiment.state(*run) for run in runs]
    for (cell, seed, _), state in zip(runs, states, strict=True):
        settings = " ".join(cell.settings) or "(the full model)"
        console.out(f"{state:6} {cell.name:14} seed {seed}  {cell.system:9}  {settings}")
    console.out(f"{states.count('done')} of {len(runs)} runs are done")


def _starts(pretrain: Sequence[str], pretrained: Sequence[str]) -> dict[str, int | Path]:
    """Return epochs or checkpoint by name of a frame detector; options with a name count first."""
    from sparsevod_core.reproduce.grid import BASELINE, START_NAMES

    general: dict[str, int | Path] = {}
    named: dict[str, int | Path] = {}
    for text in pretrain:
        name, value = _named(text)
        if name is None:
            general.update(dict.fromkeys(START_NAMES, _epochs(value)))
        else:
            named[name] = _epochs(value)
    for text in pretrained:
        name, value = _named(text)
        known, name = (general, BASELINE.name) if name is None else (named, name)
        if name in known:
            raise ConfigError("--pretrain trains the detector that --pretrained takes: give one")
        known[name] = Path(value)
    return general | named


def _named(text: str) -> tuple[str | None, str]:
    """Split NAME=VALUE if NAME is that of a frame detector; a file name may contain `=` too."""
    from sparsevod_core.reproduce.grid import START_NAMES

    name, separator, value = text.partition("=")
    return (name, value) if separator and name in START_NAMES else (None, text)


def _epochs(text: str) -> int:
    from sparsevod_core.reproduce.grid import START_NAMES

    if not text.isdecimal() or int(text) < 1:
        raise ConfigError(
            f"--pretrain {text}: expected a number of epochs, at least 1",
            hint=f"or NAME=EPOCHS with one of the names {', '.join(START_NAMES)}",
        )
    return int(text)


def _options(**values: object) -> tuple[str, ...]:
    """Return the given values as options of another command."""
    given = {name: value for name, value in values.items() if value is not None}
    return tuple(f"--{name.replace('_', '-')}={value}" for name, value in given.items())


def _numbers(option: str, text: str) -> list[int]:
    try:
        return [int(number) for number in text.split(",")]
    except ValueError as error:
        raise ConfigError(f"{option} {text}: expected numbers, e.g. {option} 2,5") from error
