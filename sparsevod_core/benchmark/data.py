"""Benchmark of the data loader: clips per second, and the time that training steps wait for it.

Both measurements use the loader of a training run, with its processes, order and augmentation. The
steps are real: forward, matching and losses, backward, optimizer.
"""

from __future__ import annotations

from dataclasses import asdict

import torch

from sparsevod_core.benchmark.timing import peak_memory_mib, summary
from sparsevod_core.benchmark.training_step import (
    TrainingStep,
    endless_batches,
    measured_settings,
    time_steps,
    training_clips,
)
from sparsevod_core.config import Config
from sparsevod_core.errors import ConfigError
from sparsevod_core.machine import describe_machine, describe_run
from sparsevod_core.reporting import Reporter, SilentReporter

SCHEMA = "sparsevod.bench-data/1"


def benchmark_data(
    config: Config,
    *,
    device: torch.device,
    steps: int = 30,
    warmup: int = 5,
    reporter: Reporter | None = None,
) -> dict:
    """Measure loading and training with `config` in one process.

    The result can be written as JSON. Keys: `loader` {clips_per_second, seconds_per_batch},
    `training` {clips_per_second, seconds_per_step, wait_seconds_per_step, data_wait_share},
    `clips`, `settings`, `peak_memory_mib`, `run`, `machine`. Times are {median, min, p95}.
    Loader processes keep running during a step. Without a core for each, they share the cores with
    the step.

    Args:
        config: settings; `data`, `model`, `train` and `seed` are used. Weights are random.
        device: device for training.
        steps: number of measured batches and steps.
        warmup: number of batches and steps before them, in which loader processes start.
        reporter: receives progress.

    Raises:
        DataError, VideoError: invalid annotations or frames.
        ConfigError: fewer than one step.
    """
    if steps < 1 or warmup < 0:
        raise ConfigError(f"bench data: steps={steps}, warmup={warmup}: expected at least 1 and 0")
    reporter = reporter or SilentReporter()
    dataset, config = training_clips(config)
    step = TrainingStep(config, device)
    with reporter.progress("bench data", 2 * (warmup + steps), "batches") as progress:
        limits = (device, warmup, steps, progress)
        loading = time_steps(endless_batches(dataset, config), lambda _: None, *limits)
        training = time_steps(endless_batches(dataset, config), step, *limits)
    per_step = config.train.clips_per_gpu
    batch_times = [one.total for one in loading]
    step_times, waits = [one.total for one in training], [one.wait for one in training]
    return {
        "schema": SCHEMA,
        "loader": {
            "clips_per_second": per_step * steps / sum(batch_times),
            "seconds_per_batch": summary(batch_times),
        },
        "training": {
            "clips_per_second": per_step * steps / sum(step_times),
            "seconds_per_step": summary(step_times),
            "wait_seconds_per_step": summary(waits),
            "data_wait_share": sum(waits) / sum(step_times),
        },
        "clips": len(dataset),
        "settings": measured_settings(dataset, config, steps, warmup),
        "peak_memory_mib": peak_memory_mib(device),
        "run": describe_run(str(device), config.train.precision, config.flat()),
        "machine": asdict(describe_machine()),
    }
