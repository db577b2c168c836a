"""Frames per second of every row, measured in turns in one process; weights do not matter."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

import torch
from grid import Table
from results import saved_speed, speed_key
from runs import Experiment, write_json

from sparsevod_core.benchmark.inference import BenchmarkSettings, benchmark
from sparsevod_core.inference import resolve_device
from sparsevod_core.model.build import build_detector
from sparsevod_core.reporting import Reporter

ROUNDS = 3  # through all rows, so that a busy minute does not hit one of them alone


def frames_per_second(
    experiment: Experiment, chosen: Sequence[Table], device: str, reporter: Reporter
) -> dict[str, float]:
    """By `speed_key`: the median of all rounds, one frame at a time, from the saved file if there.

    The frames have the recipe's size, short by long side. `speed.json` names the machine.
    """
    rows = {speed_key(row): row for table in chosen for row in table.rows}
    file = experiment.output / "speed.json"
    known = saved_speed(file)
    if rows.keys() <= known.keys():
        return known
    seconds: dict[str, list[float]] = {key: [] for key in rows}
    for number in range(ROUNDS):
        for key, row in rows.items():
            reporter.message(f"speed, round {number + 1} of {ROUNDS}: {key}")
            config = experiment.config(row.cell)
            torch.manual_seed(0)
            uses_supports = {config.model.tfe, config.model.spfa} != {"off"}
            supports = config.inference.supports if row.supports is None else row.supports
            measured = benchmark(
                build_detector(config.model),
                BenchmarkSettings(
                    size=(config.data.short_side, config.data.long_side),
                    supports=supports if uses_supports else 0,
                    precision=config.inference.precision,
                ),
                device=resolve_device(device),
            )
            seconds[key].append(measured["seconds_per_frame"]["median"])
    fps = {key: 1 / statistics.median(values) for key, values in seconds.items()}
    about = {key: measured[key] for key in ("machine", "run", "settings")}
    write_json(file, {"fps": fps, **about})
    return fps
