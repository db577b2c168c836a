"""Clips per second of the loader alone, and how long training steps wait for it.

Both see the loader of a training run: its processes, its order of clips, its augmentation. Steps
are real ones: forward, matching and losses, backward, optimiser.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import asdict, dataclass
from itertools import count
from pathlib import Path

import torch

from sparsevod_core.benchmark.timing import now, peak_memory_mib, summary
from sparsevod_core.benchmark.training_step import TrainingStep
from sparsevod_core.config import Config
from sparsevod_core.data.dataset import ClipDataset, clip_settings
from sparsevod_core.data.loader import TrainingBatch, training_loader
from sparsevod_core.data.records import VideoSet
from sparsevod_core.errors import ConfigError
from sparsevod_core.machine import describe_machine
from sparsevod_core.reporting import Progress, Reporter, SilentReporter


@dataclass(frozen=True, slots=True)
class StepTime:
    """Seconds of one training step.

    Attributes:
        wait: until its batch was there.
        whole: from the end of the step before, the wait included.
    """

    wait: float
    whole: float


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
    `settings`, `peak_memory_mib`, `device`, `threads`, `machine`. Times are {median, min, p95}.
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
    data = config.data
    root = None if data.train_root is None else Path(data.train_root)
    videos = VideoSet.load(Path(data.train_annotations), root)
    config = config.replace({"model.num_classes": len(videos.categories)})
    dataset = ClipDataset(videos, clip_settings(config), config.seed)
    step = TrainingStep(config, device)
    with reporter.progress("bench data", 2 * (warmup + steps), "batches") as progress:
        limits = (device, warmup, steps, progress)
        alone = _time(_batches(dataset, config), lambda _: None, *limits)
        training = _time(_batches(dataset, config), step, *limits)
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
        "settings": {
            "annotations": str(videos.annotations_path),
            "clips_per_step": per_step,
            "frames_per_clip": 1 + clip_settings(config).supports,
            "steps": steps,
            "warmup": warmup,
            **asdict(data),
        },
        "peak_memory_mib": peak_memory_mib(device),
        "device": str(device),
        "threads": torch.get_num_threads(),
        "machine": asdict(describe_machine()),
    }


def _batches(dataset: ClipDataset, config: Config) -> Generator[TrainingBatch, None, None]:
    """Those of one epoch after the other, without end."""
    for epoch in count():
        yield from training_loader(
            dataset,
            clips_per_gpu=config.train.clips_per_gpu,
            rank=0,
            world_size=1,
            epoch=epoch,
            workers=config.data.workers,
            seed=config.seed,
        )


def _time(
    batches: Generator[TrainingBatch, None, None],
    step: Callable[[TrainingBatch], object],
    device: torch.device,
    warmup: int,
    steps: int,
    progress: Progress,
) -> list[StepTime]:
    times = []
    with closing(batches):  # ends the loader's processes
        end = now(device)
        for number in range(warmup + steps):
            batch = next(batches)
            arrived = time.perf_counter()
            step(batch)
            start, end = end, now(device)
            if number >= warmup:
                times.append(StepTime(arrived - start, end - start))
            progress.advance()
    return times
