"""Training: the loop, and what it needs to stop and go on at any step.

The detector is plain single-device code; with several processes the trainer wraps it in DDP.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import torch
from torch import nn

from sparsevod_core import distributed
from sparsevod_core.checkpoint import Checkpoint, save_checkpoint
from sparsevod_core.config import Config
from sparsevod_core.data.dataset import ClipDataset, clip_settings
from sparsevod_core.data.loader import steps_per_epoch
from sparsevod_core.data.records import VideoSet
from sparsevod_core.errors import ConfigError
from sparsevod_core.fast import plan_for_training, trainable
from sparsevod_core.inference import resolve_device
from sparsevod_core.losses.criterion import SetCriterion
from sparsevod_core.model.build import build_detector
from sparsevod_core.model.detector import SparseVOD
from sparsevod_core.reporting import Progress, Reporter, SilentReporter
from sparsevod_core.training.bad_batch import bad_batch_is_kept
from sparsevod_core.training.gradients import accumulate_gradients, agree, parallel
from sparsevod_core.training.interruption import Interruption
from sparsevod_core.training.metrics import Metrics
from sparsevod_core.training.optim import build_optimizer, set_learning_rate
from sparsevod_core.training.position import Position, restore, training_state
from sparsevod_core.training.result import TrainingResult
from sparsevod_core.training.run_folder import RunFolder
from sparsevod_core.training.schedule import Schedule
from sparsevod_core.training.start import starting_detector
from sparsevod_core.training.step_log import StepLog
from sparsevod_core.training.steps import rest_of_epoch
from sparsevod_core.training.summary import introduction
from sparsevod_core.training.validation import evaluate_run
from sparsevod_core.training.weight_average import WeightAverage


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
        self.reporter = (reporter if distributed.is_main() else None) or SilentReporter()
        self.device = distributed.own_device(resolve_device(device))
        self.run = RunFolder(output)
        if not resume:
            self.run.require_new()

        self.videos = _load_videos(config.data.train_annotations, config.data.train_root)
        self.categories = self.videos.categories
        self.config = config = config.replace({"model.num_classes": len(self.categories)})
        self.dataset = ClipDataset(self.videos, clip_settings(config), config.seed)
        self.validation: VideoSet | None = None
        if config.data.val_annotations is not None and config.train.eval_every:
            self.validation = _load_videos(
                config.data.val_annotations, config.data.val_root, for_scoring=True
            )
        elif config.train.patience:
            raise ConfigError(
                f"train.patience={config.train.patience} needs something to evaluate on",
                hint="--val FILE gives validation annotations",
            )

        num_clips, world_size = len(self.dataset), distributed.world_size()
        per_rank = config.train.clips_per_gpu * config.train.accumulate
        self.clips_per_step = per_rank * world_size
        self.schedule = Schedule(config.train, steps_per_epoch(num_clips, per_rank, world_size))
        self.position = Position(num_clips=num_clips, world_size=world_size)

        torch.manual_seed(config.seed)
        if resume or not distributed.is_main():  # weights come from last.pth, or from rank 0
            self.detector = build_detector(config.model)
        else:
            self.detector = starting_detector(config, self.categories, self.reporter)
        # Convolutions are a tenth faster in it, forward and backward.
        self.detector.to(self.device).to(memory_format=torch.channels_last)
        self.detector.recompute_stages = config.train.checkpoint_stages
        self.plan = plan_for_training(
            self.device, config.train.precision, recorded=config.train.record
        )
        self.optimizer = build_optimizer(self.detector, config.train, fused=self.plan.recorded)
        self.criterion = SetCriterion(config.loss)
        self.model = parallel(trainable(self.detector, self.plan), config)
        self.average: WeightAverage | None = None
        if config.train.ema:
            self.average = WeightAverage(self.detector, config.train.ema)
        if resume:
            self._restore()
        step, tensorboard = self.position.step, config.train.tensorboard
        self.metrics = Metrics(self.run, after_step=step, tensorboard=tensorboard)
        if not resume and distributed.is_main():
            self.run.start(config)
        self.log = StepLog(self.metrics, self.schedule, self.clips_per_step, self.position.seconds)

    @property
    def result_detector(self) -> SparseVOD:
        """What is evaluated and kept: the average of the weights, where there is one."""
        return self.detector if self.average is None else self.average.detector

    @property
    def is_stopped_early(self) -> bool:
        """Whether `train.patience` is at its end."""
        patience = self.config.train.patience
        return 0 < patience <= self.position.num_worse

    @property
    def is_finished(self) -> bool:
        """Whether nothing is left to train or to evaluate."""
        at_end = self.position.step >= self.schedule.total_steps
        return self.is_stopped_early or (at_end and not self._is_evaluation_due())

    def fit(self) -> TrainingResult:
        """Train to the last step, from wherever the run stands.

        Ctrl-C and SIGTERM let the step end and last.pth be written, then do what they usually do.

        Raises:
            NonFiniteLossError: naming the frames of the batch, which bad_batch.json tells how to
                make again; last.pth is from before.
            DataError: an annotation or image that cannot be used, named.
        """
        for line in introduction(self):
            self.reporter.message(line)
        parameters = [p for p in self.detector.parameters() if p.requires_grad]
        interruption = Interruption(patient=distributed.is_launched())
        with interruption, bad_batch_is_kept(self):
            if self.position.step == 0:
                self.save()  # so that a run can go on whenever it is cut off
            self.model.train()
            self.log.start_lap()
            while not self.is_finished:
                if self._is_evaluation_due():
                    evaluate_run(self, interruption)
                    continue
                with self._epoch_progress() as progress:
                    for batches in rest_of_epoch(self):
                        num_boxes, stop = agree(batches, interruption.requested)
                        rate = self.schedule.learning_rate(self.position.step)
                        set_learning_rate(self.optimizer, rate)
                        self.optimizer.zero_grad(set_to_none=True)
                        losses = accumulate_gradients(
                            self.model,
                            self.criterion,
                            batches,
                            num_boxes,
                            device=self.device,
                            precision=self.config.train.precision,
                        )
                        grad_norm = nn.utils.clip_grad_norm_(
                            parameters, self.config.train.clip_grad_norm
                        )
                        self.optimizer.step()
                        self.position.step += 1
                        if self.average is not None:
                            self.average.update(self.position.step)
                        files = [clip for batch in batches for clip in batch.files]
                        self.log.add(self.position.step, rate, losses, grad_norm, files)
                        self._report(progress)
                        if stop:
                            self._stop(interruption)
                self.save()
        return self._result()

    def _epoch_progress(self) -> AbstractContextManager[Progress]:
        step, schedule = self.position.step, self.schedule
        label = f"epoch {schedule.position(step)[0] + 1}/{schedule.num_epochs}"
        return self.reporter.progress(label, schedule.steps_left(step), unit="steps")

    def _report(self, progress: Progress) -> None:
        """Metrics and checkpoints where they are due; the only steps that wait for the device."""
        if self.schedule.is_checkpoint_due(self.position.step):
            self.save()
        elif self.schedule.is_log_due(self.position.step):
            self.log.write()
        progress.advance(note=self.log.note)

    def save(self) -> None:
        """Write last.pth, after a look at whether the losses until here are finite."""
        self.log.write()
        self.position.seconds = self.log.seconds
        if distributed.is_main():
            training = training_state(self.position, self.detector, self.optimizer, self.average)
            self.run.keep_previous()
            save_checkpoint(self.run.last, self.checkpoint(training))
        self.log.start_lap()

    def checkpoint(self, training: dict[str, Any] | None = None) -> Checkpoint:
        """The weights to use, and what training needs to go on where `training` holds it."""
        weights = self.result_detector.state_dict()
        return Checkpoint(self.config, self.categories, weights, training)

    def _restore(self) -> None:
        """Weights, optimiser state and position of last.pth."""
        self.position = restore(
            self.run,
            self.config,
            self.categories,
            self.detector,
            self.optimizer,
            self.average,
            self.position,
        )
        for group in self.optimizer.param_groups:  # a checkpoint holds those of its own machine
            group["fused"] = self.plan.recorded or None
        if distributed.is_main():
            self.run.write_config(self.config)
            self.run.forget_after(self.position.step, self.position.evaluated_step)

    def _is_evaluation_due(self) -> bool:
        step = self.position.step
        is_done = self.validation is None or step == self.position.evaluated_step
        return not is_done and self.schedule.is_evaluation_due(step)

    def _stop(self, interruption: Interruption) -> None:
        self.save()
        self.tell_how_to_go_on()
        interruption.take_effect()

    def tell_how_to_go_on(self) -> None:
        """Where the run stands, and the command that resumes it."""
        self.reporter.message(
            f"stopped after step {self.position.step} of {self.schedule.total_steps}; "
            f"go on with: {self.run.resume_command(distributed.launch_options())}"
        )

    def _result(self) -> TrainingResult:
        position = self.position
        checkpoint = self.run.last if position.best is None else self.run.best
        return TrainingResult(
            self.run.path, position.step, position.seconds, position.best, checkpoint
        )


def _load_videos(annotations: str, root: str | None, *, for_scoring: bool = False) -> VideoSet:
    return VideoSet.load(
        Path(annotations), None if root is None else Path(root), for_scoring=for_scoring
    )
