"""Frames per second of every table row, measured with random weights in one process."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

import torch

from sparsevod_core.benchmark.inference import BenchmarkSettings, benchmark
from sparsevod_core.inference import resolve_device
from sparsevod_core.model.build import build_detector
from sparsevod_core.reporting import Reporter
from sparsevod_core.reproduce.experiment import Experiment
from sparsevod_core.reproduce.grid import Table
from sparsevod_core.reproduce.json_files import write_json
from sparsevod_core.reproduce.results import saved_speed, speed_key

ROUNDS = 3  # over all rows, so that other load on the machine does not hit a single row


def frames_per_second(
    experiment: Experiment, chosen: Sequence[Table], device: str, reporter: Reporter
) -> dict[str, float]:
    """Return frames per second by `speed_key`: the median over all rounds, one frame at a time.

    Frames have the short and long side of the recipe. The results and the machine are saved to
    `speed.json`; if it has all rows, nothing is measured.
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
            supports = config.inference.supports if row.supports is None else row.supports
            measured = benchmark(
                build_detector(config.model),
                BenchmarkSettings(
                    size=(config.data.short_side, config.data.long_side),
                    supports=supports if config.model.uses_supports else 0,
                    precision=config.inference.precision,
                ),
                device=resolve_device(device),
                config=config,
            )
            seconds[key].append(measured["seconds_per_frame"]["median"])
    fps = {key: 1 / statistics.median(values) for key, values in seconds.items()}
    about = {key: measured[key] for key in ("machine", "run", "settings")}
    write_json(file, {"fps": fps, **about})
    return fps
