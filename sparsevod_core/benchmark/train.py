"""Benchmark of training steps: data wait, forward, matching, loss, backward, optimizer.

Entire steps are timed first, as they run in training. Parts are timed in separate steps, because
synchronizing with a GPU after each part slows the step down.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict

import torch

from sparsevod_core.benchmark.timing import peak_memory_mib, summary
from sparsevod_core.benchmark.training_step import (
    PARTS,
    TrainingStep,
    endless_batches,
    measured_settings,
    time_steps,
    training_clips,
)
from sparsevod_core.config import Config
from sparsevod_core.data.loader import TrainingBatch
from sparsevod_core.errors import ConfigError
from sparsevod_core.machine import describe_machine, describe_run
from sparsevod_core.reporting import Reporter, SilentReporter

SCHEMA = "sparsevod.bench-train/1"


def benchmark_training(
    config: Config,
    *,
    device: torch.device,
    steps: int = 30,
    warmup: int = 5,
    reporter: Reporter | None = None,
) -> dict:
    """Measure training steps with `config` in one process; weights are random.

    The result can be written as JSON. Keys: `clips_per_second`, `seconds_per_step` {median, min,
    p95}, `data_wait_share` (of entire steps), `parts` {data_wait, forward, matching, loss,
    backward, optimiser: {median, min, p95, share}}, `peak_memory_mib`, `clips`, `settings`, `run`,
    `machine`. Seconds are per step; shares are of the total time of all parts.

    Args:
        config: settings; `data`, `model`, `loss`, `train` and `seed` are used.
        device: device for training.
        steps: number of measured entire steps, and of steps measured in parts.
        warmup: number of steps before each measurement.
        reporter: receives progress.

    Raises:
        DataError, VideoError: invalid annotations or frames.
        ConfigError: fewer than one step.
    """
    if steps < 1 or warmup < 0:
        raise ConfigError(f"bench train: steps={steps}, warmup={warmup}: expected at least 1 and 0")
    reporter = reporter or SilentReporter()
    dataset, config = training_clips(config)
    step = TrainingStep(config, device)
    rows: list[dict[str, float]] = []

    def in_parts(batch: TrainingBatch) -> None:
        rows.append(step.parts(batch))

    with reporter.progress("bench train", 2 * (warmup + steps), "steps") as progress:
        limits = (device, warmup, steps, progress)
        entire = time_steps(endless_batches(dataset, config), step, *limits)
        peak = peak_memory_mib(device)
        waits = [
            one.wait for one in time_steps(endless_batches(dataset, config), in_parts, *limits)
        ]
    parts = {"data_wait": waits}
    parts |= {name: [row[name] for row in rows[warmup:]] for name in PARTS}
    seconds = [one.total for one in entire]
    per_step = config.train.clips_per_gpu
    return {
        "schema": SCHEMA,
        "clips_per_second": per_step * steps / sum(seconds),
        "seconds_per_step": summary(seconds),
        "data_wait_share": sum(one.wait for one in entire) / sum(seconds),
        "parts": _with_shares(parts),
        "peak_memory_mib": peak,
        "clips": len(dataset),
        "settings": {
            **measured_settings(dataset, config, steps, warmup),
            "precision": config.train.precision,
        },
        "run": describe_run(str(device), config.train.precision, config.flat()),
        "machine": asdict(describe_machine()),
    }


def _with_shares(parts: Mapping[str, Sequence[float]]) -> dict[str, dict[str, float]]:
    total = sum(sum(times) for times in parts.values())
    return {name: {**summary(times), "share": sum(times) / total} for name, times in parts.items()}
