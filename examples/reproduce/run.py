"""The paper's ablations in one command: trains what is missing, evaluates, writes tables, figures.

    python examples/reproduce/run.py --annotations train.json --val val.json --backbone tiny \\
        --seeds 0 1 2 --output results

Run again, it goes on where it was cut off. RESULTS/CELL/seed-N/ keeps a few kilobytes of every run
(config.yaml, metrics.jsonl, eval.json); with them alone, from a repository without checkpoints, the
grid goes on with the runs that are not done. tables.md, tables.json and the figures are written
after every run. With --pretrain, --set-rows is not for the detector that all start from. On
ImageNet VID, prepared at its default place, this is the paper's experiment:

    python examples/reproduce/run.py --backbone r50 --gpus 8 --output results
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from grid import FULL, Cell, cells, tables, test_supports
from pretraining import FILE, pretrain, starting_from
from results import load_results, saved_speed, summarise
from runs import CommandError, Experiment
from tables import write_tables

from sparsevod_cli import console
from sparsevod_cli.progress import ConsoleReporter
from sparsevod_core.config import DataConfig
from sparsevod_core.errors import ConfigError, SparseVodError

Run = tuple[Cell, int, list[int]]
"""A model, a seed, and the numbers of supports to evaluate with beside the usual one."""


def main() -> None:
    arguments = parse()
    try:
        reproduce(arguments)
    except SparseVodError as error:
        console.error(error.message, error.hint)
        sys.exit(error.exit_code)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--annotations", type=Path, help="COCO-VID JSON to train on; else ImageNet VID's")
    add("--root", type=Path, help="folder that its file names start from")
    add("--val", type=Path, help="scored once at the end of every run; else ImageNet VID's")
    add("--val-root", type=Path, help="folder that the file names of --val start from")
    add("--choose-by", type=Path, help="other videos, to choose the best checkpoint; else the last")
    add("--choose-root", type=Path, help="folder that the file names of --choose-by start from")
    add("--backbone", default="r50", help="preset: tiny, r50, r101, x101 (default r50)")
    add("--seeds", "--seed", type=int, nargs="+", default=[0, 1, 2])
    add("--tables", type=int, nargs="+", choices=(2, 3, 4, 5), default=[2, 3, 4, 5])
    add("--only", nargs="+", metavar="CELL", help="train these alone; --dry-run lists them")
    add("--pretrain", type=int, metavar="EPOCHS", help="all start from one single-frame detector")
    add("--output", type=Path, default=Path("results"))
    add("--config", type=Path, help="YAML with settings of all runs")
    add("--set", action="append", default=[], metavar="A.B=C", help="a setting of all runs")
    add("--set-rows", action="append", default=[], metavar="A.B=C", help="one of the rows alone")
    add("--gpus", type=int, help="processes of every run")
    add("--device", default="auto")
    add("--dry-run", action="store_true", help="list the runs and which are done, do nothing")
    add("--tables-only", action="store_true", help="train nothing: tables of what is there")
    return parser.parse_args()


def reproduce(arguments: argparse.Namespace) -> None:
    """All of it.

    Raises:
        SparseVodError: settings or results that do not fit, or a run that failed.
    """
    plain = experiment_of(arguments)
    experiment = rows_of(plain, arguments)
    chosen = tables(experiment.config(FULL), arguments.tables)
    models = cells(chosen)
    if unknown := set(arguments.only or ()) - {cell.name for cell in models}:
        names = ", ".join(cell.name for cell in models)
        raise ConfigError(f"--only {unknown.pop()}: expected some of {names}")
    # Seed by seed: what is there after a while is a whole table with fewer seeds.
    runs = [
        (cell, seed, test_supports(chosen, cell))
        for seed in arguments.seeds
        for cell in models
        if arguments.only is None or cell.name in arguments.only
    ]
    if arguments.dry_run:
        list_runs(experiment, runs)
        return
    for cell, seed, _ in runs:
        experiment.require_same_settings(cell, seed)
    experiment.output.mkdir(parents=True, exist_ok=True)
    (experiment.output / ".gitignore").write_text("checkpoints/\n*.partial\n")

    def report() -> None:
        results = load_results(experiment, chosen, arguments.seeds)
        fps = saved_speed(experiment.output / "speed.json")
        summary = summarise(chosen, results, arguments.seeds, fps)
        write_report(summary, experiment, arguments)

    is_complete = all(experiment.state(*run) == "done" for run in runs)
    if arguments.pretrain and not (arguments.tables_only or is_complete):
        pretrain(plain, arguments.pretrain)
    failed = [] if arguments.tables_only else train(experiment, runs, report)
    if not (failed or arguments.tables_only or arguments.only):
        from speed import frames_per_second

        frames_per_second(experiment, chosen, arguments.device, ConsoleReporter())
    report()
    print(experiment.output / "tables.md")
    if failed:
        raise CommandError(f"failed: {', '.join(failed)}", hint="the same command tries again")


def train(experiment: Experiment, runs: Sequence[Run], report: Callable[[], None]) -> list[str]:
    """What is not done yet, one run after the other; names of those that failed."""
    failed = []
    for number, run in enumerate(runs, start=1):
        if experiment.state(*run) == "done":
            continue
        name = f"{run[0].name}, seed {run[1]}"
        print(f"\n== run {number} of {len(runs)}: {name}", file=sys.stderr, flush=True)
        try:
            experiment.run(*run)
        except CommandError:
            failed.append(name)
        else:
            report()
    return failed


def list_runs(experiment: Experiment, runs: Sequence[Run]) -> None:
    """Every run, its settings, and whether it is done."""
    for run in runs:
        cell, seed, _ = run
        settings = " ".join(cell.settings) or "(the full model)"
        print(f"{experiment.state(*run):6} {cell.name:13} seed {seed}  {settings}")
    done = sum(experiment.state(*run) == "done" for run in runs)
    print(f"{done} of {len(runs)} runs are done")


def write_report(
    summary: Mapping[str, Any], experiment: Experiment, arguments: argparse.Namespace
) -> None:
    """Tables and figures of what is there."""
    from figures import write_figures

    train = experiment.config(FULL).train
    clips = train.clips_per_gpu * train.accumulate * (arguments.gpus or 1)
    val = arguments.val or Path(DataConfig().val_annotations or "")
    settings = "".join(f" `{text}`" for text in (*arguments.set, *arguments.set_rows))
    start = ""
    if arguments.pretrain:
        start = (
            f" All start from one single-frame detector, trained for {arguments.pretrain} epochs."
        )
    about = (
        f"# Ablations\n\nPreset `{arguments.backbone}`{settings}, {clips} clips a step, scored on "
        f"`{val.name}`.{start}"
    )
    write_tables(summary, about, experiment.output)
    write_figures(summary, experiment.output)


def rows_of(plain: Experiment, arguments: argparse.Namespace) -> Experiment:
    """The experiment as its rows have it: their own settings, and where they start."""
    rows = replace(plain, settings=(*plain.settings, *arguments.set_rows))
    return starting_from(plain.output / FILE, rows) if arguments.pretrain else rows


def experiment_of(arguments: argparse.Namespace) -> Experiment:
    """The command's options as those of `sparsevod train` and `sparsevod eval`."""

    def options(**values: object) -> tuple[str, ...]:
        named = {f"--{name.replace('_', '-')}": value for name, value in values.items()}
        return tuple(f"{name}={value}" for name, value in named.items() if value is not None)

    choose = options(val=arguments.choose_by, val_root=arguments.choose_root)
    val = arguments.val or Path(DataConfig().val_annotations or "")
    return Experiment(
        output=arguments.output,
        backbone=arguments.backbone,
        config_file=arguments.config,
        settings=tuple(arguments.set),
        train_data=options(annotations=arguments.annotations, root=arguments.root)
        + (choose or ("--set=data.val_annotations=none",)),
        eval_data=options(annotations=val, root=arguments.val_root),
        machine=options(gpus=arguments.gpus, device=arguments.device),
        chooses_best=bool(choose),
    )


if __name__ == "__main__":
    main()
