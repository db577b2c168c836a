"""The grid from end to end: trains missing runs, evaluates, writes tables and figures."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

from sparsevod_core.errors import ConfigError
from sparsevod_core.files.check import check_outputs
from sparsevod_core.files.lock import lock_file
from sparsevod_core.files.unfinished import write_text
from sparsevod_core.reporting import Reporter, counted
from sparsevod_core.reproduce.experiment import CommandError, Experiment, Run
from sparsevod_core.reproduce.figures import write_figures
from sparsevod_core.reproduce.grid import BASELINE, FULL, Table, cells, support_counts
from sparsevod_core.reproduce.results import load_results, saved_speed, summarize
from sparsevod_core.reproduce.speed import frames_per_second
from sparsevod_core.reproduce.tables import OWN_TABLES, write_tables


def plan(
    chosen: Sequence[Table], seeds: Sequence[int], only: Collection[str] | None = None
) -> list[Run]:
    """Return the runs that the tables need, seed by seed.

    In this order, an interrupted grid has complete tables with fewer seeds.

    Args:
        chosen: Tables to fill.
        seeds: Seeds of each model.
        only: Names of the cells to train; None means all.

    Raises:
        ConfigError: `only` contains an unknown name.
    """
    models = cells(chosen)
    names = [cell.name for cell in models]
    for name in only or ():
        if name not in names:
            raise ConfigError(f"--only {name}: expected some of {', '.join(names)}")
    return [
        Run(cell, seed, support_counts(chosen, cell))
        for seed in seeds
        for cell in models
        if only is None or cell.name in only
    ]


def reproduce(
    experiment: Experiment,
    chosen: Sequence[Table],
    runs: Sequence[Run],
    *,
    seeds: Sequence[int],
    about: str,
    trains: bool = True,
    speed_device: str,
    reporter: Reporter,
) -> list[str]:
    """Train and evaluate runs that are not done, and write tables and figures after each.

    Args:
        experiment: Options and settings of all runs.
        chosen: Tables to write.
        runs: Runs to train, from `plan`.
        seeds: Seeds to report.
        about: Markdown at the top of the tables, which says how they were made.
        trains: If False, only report existing results.
        speed_device: Device on which to measure frames per second of the models of `runs`.
        reporter: Receives progress.

    Returns:
        Names of the runs that failed.

    Raises:
        SparseVodError: Settings or results do not fit, pretraining failed, or the results cannot be
            written, e.g. because another process does.
    """
    for run in runs:
        experiment.require_same_settings(run.cell, run.seed)
    tables, ignored = experiment.output / "tables.md", experiment.output / ".gitignore"
    check_outputs([(tables, OWN_TABLES)])
    with lock_file(experiment.output / "reproduce.lock", experiment.output):
        if not ignored.exists():
            write_text(ignored, "checkpoints/\n*.pth\n*.partial\n*.lock\n")
        return _reproduce(
            experiment,
            chosen,
            runs,
            seeds=seeds,
            about=about,
            trains=trains,
            speed_device=speed_device,
            reporter=reporter,
        )


def _reproduce(
    experiment: Experiment,
    chosen: Sequence[Table],
    runs: Sequence[Run],
    *,
    seeds: Sequence[int],
    about: str,
    trains: bool,
    speed_device: str,
    reporter: Reporter,
) -> list[str]:
    def report() -> None:
        results = load_results(experiment, chosen, seeds)
        fps = saved_speed(experiment.output / "speed.json")
        summary = summarize(chosen, results, seeds, fps)
        write_tables(summary, about, experiment.output)
        write_figures(summary, experiment.output)

    failed = _train(experiment, runs, report, reporter) if trains else []
    if trains and not failed:
        models = {run.cell for run in runs}
        rows = [row for table in chosen for row in table.rows if row.cell in models]
        frames_per_second(experiment, rows, speed_device, reporter)
    report()
    return failed


def describe(
    experiment: Experiment, runs: Sequence[Run], *, num_processes: int, scored_on: str
) -> str:
    """Return the heading of the tables: how the runs were made."""
    train = experiment.config(FULL).train
    clips = train.clips_per_gpu * train.accumulate * num_processes
    settings = "".join(f" `{text}`" for text in (*experiment.settings, *experiment.row_settings))
    return (
        f"# Ablations\n\nPreset `{experiment.backbone}`{settings}, {clips} clips a step, scored on "
        f"`{scored_on}`.{_describe_starts(experiment, runs)}"
    )


def _describe_starts(experiment: Experiment, runs: Sequence[Run]) -> str:
    """Return sentences on the frame detectors that the rows start from."""
    origins = {}
    for start in dict.fromkeys(experiment.start_of(run.cell) for run in runs):
        if start is not None:
            given = experiment.starts.get(start.cell.name)
            if given is None:
                origins[start.cell] = f"trained with {', '.join(start.recipe)}"
            elif isinstance(given, int):
                origins[start.cell] = f"trained for {counted(given, 'epoch')}"
            else:
                origins[start.cell] = f"`{given.name}`"
    if list(origins) == [BASELINE]:
        return f" All start from one single-frame detector, {origins[BASELINE]}."
    parts = [f"{cell.name} ({origin})" for cell, origin in origins.items()]
    return f" Single-frame detectors that rows start from: {', '.join(parts)}." if parts else ""


def _train(
    experiment: Experiment, runs: Sequence[Run], report: Callable[[], None], reporter: Reporter
) -> list[str]:
    """Run what is not done, one after the other; return the names of the failures."""
    missing = [run for run in runs if experiment.state(*run) != "done"]
    for run in runs:
        if run not in missing and (files := experiment.missing_results(*run)):
            reporter.warning(
                f"{experiment.folder(run.cell, run.seed)}: {', '.join(f.name for f in files)} "
                "cannot be made, because its checkpoint is gone: their rows stay empty "
                "(remove the folder to train the run again)"
            )
    for start in dict.fromkeys(experiment.start_of(run.cell) for run in missing):
        if start is None:
            continue
        file = experiment.start_file(start)
        done = [r for r in runs if r not in missing and experiment.start_of(r.cell) == start]
        if done and not file.exists():
            reporter.warning(
                f"{len(done)} runs are done, but {file}, from which "
                "they started, is missing: the other runs may start from different weights"
            )
        experiment.pretrain(start, reporter)
    failed = []
    for run in missing:
        name = f"{run.cell.name}, seed {run.seed}"
        reporter.message(f"== run {runs.index(run) + 1} of {len(runs)}: {name}")
        try:
            experiment.run(*run)
        except CommandError:
            failed.append(name)
        else:
            report()
    return failed
