"""Training steps for benchmarks: the work of the trainer without logs and checkpoints."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from itertools import count, pairwise
from typing import Any

import torch
from torch import nn

from sparsevod_core.benchmark.timing import autocast, now
from sparsevod_core.config import Config
from sparsevod_core.data.dataset import ClipDataset, clip_settings
from sparsevod_core.data.loader import TrainingBatch, TrainingLoader
from sparsevod_core.data.records import VideoSet
from sparsevod_core.fast import computing_in, plan_for_training, trainable
from sparsevod_core.losses.criterion import SetCriterion
from sparsevod_core.model.build import build_detector
from sparsevod_core.reporting import Progress
from sparsevod_core.structures import DetectorOutput, Targets

PARTS = ("forward", "matching", "loss", "backward", "optimiser")


@dataclass(frozen=True, slots=True)
class StepTime:
    """Seconds of one training step.

    Attributes:
        wait: time until the batch was available.
        total: time since the end of the previous step, including the wait.
    """

    wait: float
    total: float


class TrainingStep:
    """Forward, matching and losses, backward and optimizer of one process; weights are random.

    Args:
        config: settings; `model`, `loss`, `train` and `seed` are used.
        device: device for training.
    """

    def __init__(self, config: Config, device: torch.device) -> None:
        torch.manual_seed(config.seed)
        self.device = device
        self.detector = build_detector(config.model).to(device).train()
        self.detector.to(memory_format=torch.channels_last)  # as the trainer does
        self.detector.recompute_stages = config.train.recompute_stages
        plan = plan_for_training(device, config.train.precision, recorded=config.train.record)
        self._model = trainable(self.detector, plan)
        self._train = config.train
        self._criterion = _TimedCriterion(config, device)
        self._parameters = [p for p in self.detector.parameters() if p.requires_grad]
        self._optimizer = torch.optim.AdamW(
            self._parameters,
            lr=config.train.learning_rate,
            weight_decay=config.train.weight_decay,
            fused=plan.recorded or None,
        )

    def __call__(self, batch: TrainingBatch) -> None:
        """Train on a batch of the loader, without synchronizing with a GPU."""
        self._criterion.is_timed = False
        self._train_on(batch, lambda: None)

    def parts(self, batch: TrainingBatch) -> dict[str, float]:
        """Train on a batch, synchronizing after each part; return the seconds of each of `PARTS`.

        The copy to the device counts as forward, gradient clipping as optimizer.
        """
        self._criterion.is_timed = True
        marks = [now(self.device)]
        self._train_on(batch, lambda: marks.append(now(self.device)))
        forward, criterion, backward, optimizer = (end - start for start, end in pairwise(marks))
        matching = self._criterion.matching_s
        row = (forward, matching, criterion - matching, backward, optimizer)
        return dict(zip(PARTS, row, strict=True))

    def _train_on(self, batch: TrainingBatch, done: Callable[[], object]) -> None:
        batch = batch.to(self.device, non_blocking=True)
        num_boxes = max(sum(len(targets.labels) for targets in batch.targets), 1)
        with computing_in(self._train.precision):
            with autocast(self.device, self._train.precision):
                output = self._model(batch.clip, batch.targets)
            done()
            losses = self._criterion(output, batch.targets, float(num_boxes))
            done()
            self._optimizer.zero_grad(set_to_none=True)
            losses.total.backward()
            done()
        nn.utils.clip_grad_norm_(self._parameters, self._train.clip_grad_norm)
        self._optimizer.step()
        done()


class _TimedCriterion(SetCriterion):
    """Criterion that measures the time of its matching."""

    def __init__(self, config: Config, device: torch.device) -> None:
        super().__init__(config.loss)
        self.is_timed = False
        self.matching_s = 0.0
        self._device = device

    def _matched(self, output: DetectorOutput, targets: Sequence[Targets]) -> Any:
        if not self.is_timed:
            return super()._matched(output, targets)
        start = now(self._device)
        matched = super()._matched(output, targets)
        self.matching_s = now(self._device) - start
        return matched


def training_clips(config: Config) -> tuple[ClipDataset, Config]:
    """Return the clips that `config` trains on, and `config` with their number of classes.

    Raises:
        DataError: invalid annotations.
    """
    data = config.data
    videos = VideoSet.load(data.train_annotations, data.train_root)
    config = config.replace({"model.num_classes": len(videos.categories)})
    return ClipDataset(videos, clip_settings(config), config.seed), config


def endless_batches(dataset: ClipDataset, config: Config) -> Generator[TrainingBatch, None, None]:
    """Yield the batches of one epoch after another, as one process trains on them."""
    for epoch in count():
        yield from TrainingLoader(
            dataset,
            clips_per_gpu=config.train.clips_per_gpu,
            rank=0,
            world_size=1,
            epoch=epoch,
            workers=config.data.workers,
            seed=config.seed,
        )


def time_steps(
    batches: Generator[TrainingBatch, None, None],
    step: Callable[[TrainingBatch], object],
    device: torch.device,
    warmup: int,
    steps: int,
    progress: Progress,
) -> list[StepTime]:
    """Return the times of `steps` steps after `warmup` steps; closes `batches`."""
    times = []
    with closing(batches):  # ends the loader processes
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


def measured_settings(
    dataset: ClipDataset, config: Config, steps: int, warmup: int
) -> dict[str, Any]:
    """Return the settings of a measurement for its JSON."""
    return {
        "annotations": str(config.data.train_annotations),
        "clips_per_step": config.train.clips_per_gpu,
        "frames_per_clip": 1 + clip_settings(config).supports,
        "steps": steps,
        "warmup": warmup,
        **asdict(config.data),
    }
