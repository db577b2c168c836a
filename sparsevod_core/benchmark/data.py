"""Clips per second of the loader alone, and how long training steps wait for it.

Both see the loader of a training run: its processes, its order of clips, its augmentation. Steps
are real ones: forward, matching and losses, backward, optimiser.
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


def benchmark_data(
    config: Config,
    *,
    device: torch.device,
    steps: int = 30,
    warmup: int = 5,
    reporter: Reporter | None = None,
) -> dict:
    """Measure the data set and settings of `config` as one process trains on them.

    The result is ready for JSON. Keys: `loader` {clips_per_second, seconds_per_batch}, `training`
    {clips_per_second, seconds_per_step, wait_seconds_per_step, data_wait_share}, `clips`,
    `settings`, `peak_memory_mib`, `run`, `machine`. Times are {median, min, p95}.
    Where the loader has processes, they run on during a step: a machine without a core for each
    gives them what the step leaves.

    Args:
        config: `data`, `model`, `train` and `seed` are used; weights are random.
        device: where the detector trains.
        steps: batches and steps that count.
        warmup: those before them, in which loader processes start.
        reporter: told of progress.

    Raises:
        DataError, VideoError: annotations or frames that cannot be used.
        ConfigError: fewer than one step.
    """
    if steps < 1 or warmup < 0:
        raise ConfigError(f"bench data: steps={steps}, warmup={warmup}: expected at least 1 and 0")
    reporter = reporter or SilentReporter()
    dataset, config = training_clips(config)
    step = TrainingStep(config, device)
    with reporter.progress("bench data", 2 * (warmup + steps), "batches") as progress:
        limits = (device, warmup, steps, progress)
        alone = time_steps(endless_batches(dataset, config), lambda _: None, *limits)
        training = time_steps(endless_batches(dataset, config), step, *limits)
    per_step = config.train.clips_per_gpu
    loading = [one.whole for one in alone]
    whole, wait = [one.whole for one in training], [one.wait for one in training]
    return {
        "schema": "sparsevod.bench-data/1",
        "loader": {
            "clips_per_second": per_step * steps / sum(loading),
            "seconds_per_batch": summary(loading),
        },
        "training": {
            "clips_per_second": per_step * steps / sum(whole),
            "seconds_per_step": summary(whole),
            "wait_seconds_per_step": summary(wait),
            "data_wait_share": sum(wait) / sum(whole),
        },
        "clips": len(dataset),
        "settings": measured_settings(dataset, config, steps, warmup),
        "peak_memory_mib": peak_memory_mib(device),
        "run": describe_run(str(device), config.train.precision),
        "machine": asdict(describe_machine()),
    }
