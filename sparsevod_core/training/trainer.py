"""Training: the loop, and what it needs to stop and go on at any step.

The detector is plain single-device code; with several processes the trainer wraps it in DDP.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from sparsevod_core import distributed
from sparsevod_core.checkpoint import Checkpoint, save_checkpoint
from sparsevod_core.config import Config, DataConfig
from sparsevod_core.data.dataset import ClipDataset
from sparsevod_core.data.loader import TrainingBatch, steps_per_epoch, training_loader
from sparsevod_core.data.records import VideoSet
from sparsevod_core.inference import resolve_device
from sparsevod_core.losses.criterion import SetCriterion
from sparsevod_core.model.build import build_detector
from sparsevod_core.reporting import Progress, Reporter, SilentReporter
from sparsevod_core.structures import Targets
from sparsevod_core.training.interruption import Interruption
from sparsevod_core.training.optim import build_optimizer, learning_rate, set_learning_rate
from sparsevod_core.training.position import Position, restore
from sparsevod_core.training.run_folder import RunFolder
from sparsevod_core.training.start import starting_detector
from sparsevod_core.training.step_log import StepLog
from sparsevod_core.training.summary import summary
from sparsevod_core.training.validation import validate


@dataclass(frozen=True, slots=True)
class TrainingResult:
    """What a finished run came to.

    Attributes:
        run: the run folder.
        steps: optimiser steps done in all.
        seconds: time spent in them.
        best: numbers of the best evaluation (`step`, `AP`, `AP50`, `AP75`), None without one.
        checkpoint: the one to use: best.pth, or last.pth where nothing was evaluated.
    """

    run: Path
    steps: int
    seconds: float
    best: dict[str, Any] | None
    checkpoint: Path

    def to_dict(self) -> dict[str, Any]:
        """For JSON; paths are text."""
        return {**asdict(self), "run": str(self.run), "checkpoint": str(self.checkpoint)}


class Trainer:
    """One process's part of a training run.

    `Trainer(config, "runs/name").fit()` is all there is in one process; `run.train` joins several.

    Args:
        config: all settings; `model.num_classes` is taken from the training annotations.
        output: the run folder (see `RunFolder`).
        resume: go on from its last.pth instead of starting anew.
        device: `auto`, `cpu`, `cuda` or `cuda:N`.
        reporter: told what happens, by rank 0 only.

    Raises:
        ConfigError: the folder holds a run already; a setting that a resumed run cannot change.
        DataError: broken annotations.
        CheckpointError: a file to start from that is missing, broken or does not fit.
    """

    def __init__(
        self,
        config: Config,
        output: Path | str,
        *,
        resume: bool = False,
        device: str = "auto",
        reporter: Reporter | None = None,
    ) -> None:
        is_silent = reporter is None or not distributed.is_main()
        self.reporter: Reporter = SilentReporter() if is_silent else reporter  # type: ignore[assignment]
        self.device = distributed.own_device(resolve_device(device))
        self.run = RunFolder(output)

        self.videos = _load_videos(config.data.train_annotations, config.data.train_root)
        self.categories = self.videos.categories
        self.config = config = config.replace({"model.num_classes": len(self.categories)})
        self.dataset = ClipDataset(self.videos, _clip_settings(config), config.seed)
        self.validation: VideoSet | None = None
        if config.data.val_annotations is not None and config.train.eval_every:
            self.validation = _load_videos(config.data.val_annotations, config.data.val_root)

        world_size = distributed.world_size()
        self.position = Position(num_samples=len(self.dataset), world_size=world_size)
        self.clips_per_step = config.train.clips_per_gpu * world_size
        self.steps_per_epoch = steps_per_epoch(
            len(self.dataset), config.train.clips_per_gpu, world_size
        )
        all_epochs = config.train.epochs * self.steps_per_epoch
        self.total_steps = config.train.max_steps or all_epochs
        # The schedule spans the epochs: stopping early changes no step before.
        self.schedule_steps = max(self.total_steps, all_epochs)

        torch.manual_seed(config.seed)
        if resume or not distributed.is_main():  # weights come from last.pth, or from rank 0
            self.detector = build_detector(config.model)
        else:
            self.detector = starting_detector(config, self.categories, self.reporter)
        self.detector.to(self.device)
        self.parameters = [p for p in self.detector.parameters() if p.requires_grad]
        self.optimizer = build_optimizer(self.parameters, config.train)
        self.criterion = SetCriterion(config.loss)
        if resume:
            self._restore()
        elif distributed.is_main():
            self.run.start(config)
        self.model = _parallel(self.detector, config)
        self.log = StepLog(self.run, self.clips_per_step)

    @property
    def epoch(self) -> int:
        """The epoch of the next step, from 0."""
        return self.position.step // self.steps_per_epoch

    @property
    def is_finished(self) -> bool:
        """Whether nothing is left to train or to evaluate."""
        return self.position.step >= self.total_steps and not self._is_evaluation_due()

    def fit(self) -> TrainingResult:
        """Train to the last step, from wherever the run stands.

        Ctrl-C and SIGTERM let the step end and last.pth be written, then do what they usually do.

        Raises:
            NonFiniteLossError: naming the frames of the batch; last.pth is from before.
            DataError: an annotation or image that cannot be used, named.
        """
        self._introduce()
        self.model.train()
        self.log.start_lap()
        with Interruption(patient=distributed.is_launched()) as interruption:
            while not self.is_finished:
                if self._is_evaluation_due():
                    self._evaluate(interruption)
                    continue
                with self._epoch_progress() as progress:
                    for batch in self._batches():
                        num_boxes, stop = self._agree(batch.targets, interruption.requested)
                        set_learning_rate(self.optimizer, self._rate(self.position.step))
                        with self._autocast():
                            output = self.model(batch.clip)
                        losses = self.criterion(output, batch.targets, num_boxes)
                        self.optimizer.zero_grad(set_to_none=True)
                        losses.total.backward()
                        grad_norm = nn.utils.clip_grad_norm_(
                            self.parameters, self.config.train.clip_grad_norm
                        )
                        self.optimizer.step()
                        self.position.step += 1
                        self.log.add(self.position.step, losses, grad_norm, batch.files)
                        self._report(progress)
                        if stop:
                            self._stop(interruption)
                self._save()
        return self._result()

    def _batches(self) -> Iterator[TrainingBatch]:
        """The rest of the epoch, on the device."""
        loader = training_loader(
            self.dataset,
            clips_per_gpu=self.config.train.clips_per_gpu,
            rank=distributed.rank(),
            world_size=distributed.world_size(),
            epoch=self.epoch,
            first_step=self.position.step % self.steps_per_epoch,
            workers=self.config.data.workers,
            seed=self.config.seed,
        )
        asked = time.monotonic()
        for batch in islice(loader, self._steps_left()):
            self.log.waited(time.monotonic() - asked)
            yield batch.to(self.device, non_blocking=True)
            asked = time.monotonic()

    def _agree(self, targets: list[Targets], stop: bool) -> tuple[float, bool]:
        """Boxes averaged over the ranks, at least 1; and whether any rank was told to stop.

        Exchanged between the hosts: no GPU is waited for, and all ranks stop after the same step.
        """
        num_boxes = sum(len(target.labels) for target in targets)
        means = distributed.reduce_mean(torch.tensor([num_boxes, stop], dtype=torch.float64))
        return max(means[0].item(), 1.0), means[1].item() > 0

    def _autocast(self) -> torch.autocast:
        is_bf16 = self.config.train.precision == "bf16"
        return torch.autocast(self.device.type, torch.bfloat16, enabled=is_bf16)

    def _rate(self, step: int) -> float:
        return learning_rate(
            step,
            self.config.train,
            steps_per_epoch=self.steps_per_epoch,
            total_steps=self.schedule_steps,
        )

    def _steps_left(self) -> int:
        """Steps to the end of the epoch or of the run."""
        end_of_epoch = (self.epoch + 1) * self.steps_per_epoch
        return min(end_of_epoch, self.total_steps) - self.position.step

    def _epoch_progress(self) -> AbstractContextManager[Progress]:
        num_epochs = -(-self.total_steps // self.steps_per_epoch)
        label = f"epoch {self.epoch + 1}/{num_epochs}"
        return self.reporter.progress(label, self._steps_left(), unit="steps")

    def _report(self, progress: Progress) -> None:
        """Metrics and checkpoints where they are due; the only steps that wait for the device."""
        step, train = self.position.step, self.config.train
        if step % train.checkpoint_every == 0:
            self._save()
        elif step == 1 or step % train.log_every == 0:
            self._write_log()
        progress.advance(note=self.log.note)

    def _write_log(self) -> None:
        step = self.position.step
        epoch = (step - 1) // self.steps_per_epoch + 1
        rate = self._rate(step - 1)
        self.position.seconds = self.log.write(step, epoch, rate, self.position.seconds)

    def _save(self) -> None:
        """Write last.pth, after a look at whether the losses until here are finite."""
        self._write_log()
        if distributed.is_main():
            training = {
                "optimizer": self.optimizer.state_dict(),
                "position": asdict(self.position),
            }
            save_checkpoint(self.run.last, self._checkpoint(training))
        self.log.start_lap()

    def _checkpoint(self, training: dict[str, Any] | None) -> Checkpoint:
        weights = self.detector.state_dict()
        return Checkpoint(self.config, self.categories, weights, training)

    def _restore(self) -> None:
        """Weights, optimiser state and position of last.pth."""
        self.position = restore(
            self.run, self.config, self.categories, self.detector, self.optimizer, self.position
        )
        if distributed.is_main():
            self.run.write_config(self.config)
            self.run.forget_after(self.position.step, self.position.evaluated_step)

    def _is_evaluation_due(self) -> bool:
        step, every = self.position.step, self.config.train.eval_every
        if self.validation is None or step == self.position.evaluated_step:
            return False
        epochs, steps = divmod(step, self.steps_per_epoch)
        return step == self.total_steps or (steps == 0 and epochs % every == 0)

    def _evaluate(self, interruption: Interruption) -> None:
        """AP on the validation set, shared among the ranks; best.pth if it is the best so far.

        last.pth is from this step already, so that a signal may end it at once: resuming evaluates.
        """
        assert self.validation is not None
        position, epochs = self.position, -(-self.position.step // self.steps_per_epoch)
        with interruption.at_once():
            scores = validate(
                self.detector,
                self.config,
                self.categories,
                self.validation,
                self.device,
                self.reporter,
            )
        is_best = position.best is None or scores["AP"] > position.best["AP"]
        if is_best:
            numbers = {name: scores[name] for name in ("AP", "AP50", "AP75")}
            position.best = {"step": position.step, **numbers}
        position.evaluated_step = position.step
        if distributed.is_main():
            self.run.log({"kind": "eval", "step": position.step, "epoch": epochs, **scores})
            if is_best:
                save_checkpoint(self.run.best, self._checkpoint(None))
        self.reporter.message(
            f"epoch {epochs}: AP {scores['AP']:.4f}, AP50 {scores['AP50']:.4f}, "
            f"AP75 {scores['AP75']:.4f}" + (", the best so far" if is_best else "")
        )
        self.model.train()
        self._save()

    def _introduce(self) -> None:
        if self.is_finished:
            self.reporter.message(f"{self.run.path}: finished already; --epochs N trains longer")
            return
        for line in summary(self):
            self.reporter.message(line)

    def _stop(self, interruption: Interruption) -> None:
        self._save()
        processes = f" --gpus {distributed.world_size()}" if distributed.world_size() > 1 else ""
        self.reporter.message(
            f"stopped after step {self.position.step} of {self.total_steps}; "
            f"go on with: sparsevod train --resume {self.run.path}{processes}"
        )
        interruption.take_effect()

    def _result(self) -> TrainingResult:
        position = self.position
        checkpoint = self.run.last if position.best is None else self.run.best
        return TrainingResult(
            self.run.path, position.step, position.seconds, position.best, checkpoint
        )


def _load_videos(annotations: str, root: str | None) -> VideoSet:
    return VideoSet.load(Path(annotations), None if root is None else Path(root))


def _clip_settings(config: Config) -> DataConfig:
    """A detector with neither TFE nor SPFA looks at no support frame: none is loaded."""
    if config.model.tfe == config.model.spfa == "off":
        return replace(config.data, supports=0)
    return config.data


def _parallel(detector: nn.Module, config: Config) -> nn.Module:
    """The detector in DDP, which gives all ranks rank 0's weights; in one process as it is."""
    if not distributed.is_joined():
        return detector
    return DistributedDataParallel(
        detector,
        gradient_as_bucket_view=True,
        find_unused_parameters=config.data.supports == 0,  # TFE's, then
    )
