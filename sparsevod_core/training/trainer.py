"""The training loop, which can stop and resume at any step.

The detector is plain single-device code; with several processes, the trainer wraps it in DDP.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing, nullcontext
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from sparsevod_core import distributed
from sparsevod_core.checkpoint import Checkpoint, save_checkpoint
from sparsevod_core.checkpoint.digest import digest
from sparsevod_core.config import Config
from sparsevod_core.data.class_match import ClassMatch
from sparsevod_core.data.dataset import ClipDataset, clip_settings
from sparsevod_core.data.frames import FrameReader
from sparsevod_core.data.loader import (
    TrainingBatch,
    TrainingLoader,
    naming_lost_workers,
    steps_per_epoch,
)
from sparsevod_core.data.records import VideoSet
from sparsevod_core.errors import ConfigError
from sparsevod_core.fast import computing_in, plan_for_training, trainable
from sparsevod_core.inference import Predictor, resolve_device
from sparsevod_core.losses.build import build_criterion
from sparsevod_core.losses.losses import Losses
from sparsevod_core.machine import describe_run
from sparsevod_core.model.build import build_detector
from sparsevod_core.model.video_detector import VideoDetector
from sparsevod_core.reporting import Reporter, SilentReporter
from sparsevod_core.structures import Category
from sparsevod_core.training.bad_batch import recording_bad_batch
from sparsevod_core.training.initial_weights import initial_detector
from sparsevod_core.training.interruption import Interruption
from sparsevod_core.training.metrics import MetricsWriter, StepLog, validate
from sparsevod_core.training.optim import WeightAverage, build_optimizer, set_learning_rate
from sparsevod_core.training.run_folder import RunFolder, TrainingResult
from sparsevod_core.training.run_state import RunState, restore, training_state
from sparsevod_core.training.schedule import Schedule
from sparsevod_core.training.summary import run_summary


class Trainer:
    """One process of a training run.

    A single process needs no more than `Trainer(config, "runs/name").fit()`. `run.train` joins
    several processes.

    Args:
        config: All settings. `model.num_classes` is taken from the training annotations.
        output: The run folder (see `RunFolder`).
        resume: If True, resume from its last.pth instead of starting a new run.
        device: `auto`, `cpu`, `cuda` or `cuda:N`.
        reporter: Receives messages and progress, from rank 0 only.

    Raises:
        ConfigError: The folder already contains a run, or a setting that resuming cannot change.
        DataError: Invalid annotations.
        CheckpointError: A missing, corrupt or unsuitable file to start from.
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

        data, train = config.data, config.train
        if train.trained == "temporal" and train.init_from is None:
            raise ConfigError(
                "train.trained=temporal would freeze random weights: it adds to a trained frame "
                "detector",
                hint="add --init-from CHECKPOINT, or --set train.trained=all",
            )
        self.videos = VideoSet.load(data.train_annotations, data.train_root)
        self.categories = self.videos.categories
        self.config = config = config.replace({"model.num_classes": len(self.categories)})
        self.dataset = ClipDataset(self.videos, clip_settings(config), config.seed)
        self.validation: VideoSet | None = None
        if data.val_annotations is not None and train.eval_every:
            self.validation = VideoSet.load(data.val_annotations, data.val_root, for_scoring=True)
            _require_that_it_can_score(self.validation, self.categories)
        elif train.patience:
            raise ConfigError(
                f"train.patience={train.patience}: there is no validation set to evaluate on",
                hint="use --val FILE to give validation annotations",
            )

        num_clips, world_size = len(self.dataset), distributed.world_size()
        per_rank = train.clips_per_gpu * train.accumulate
        self.clips_per_step = per_rank * world_size
        self.schedule = Schedule(train, steps_per_epoch(num_clips, per_rank, world_size))
        self.state = RunState(num_clips=num_clips, world_size=world_size)

        torch.manual_seed(config.seed)
        if resume or not distributed.is_main():  # the weights come from last.pth or from rank 0
            self.detector = build_detector(config.model)
        else:
            self.detector = initial_detector(config, self.categories, self.reporter)
        # Channels-last convolutions are a tenth faster, forward and backward.
        self.detector.to(self.device).to(memory_format=torch.channels_last)
        if train.recompute_stages:
            self.detector.recompute_stages = True
        if train.trained == "temporal":
            self.detector.freeze_frame_detector()
        plan = plan_for_training(self.device, train.precision, recorded=train.record)
        self.optimizer = build_optimizer(self.detector, train, fused=plan.recorded)
        self.criterion = build_criterion(config)
        self.model = trainable(self.detector, plan)
        self._no_sync: Callable[[], AbstractContextManager[None]] = nullcontext
        if distributed.is_joined():
            # Those of TFE; the predictions of TransVOD's frame detector, which no loss reads.
            is_temporal_detr = config.model.system == "transvod" and config.model.temporal
            has_unused = data.supports == 0 or (is_temporal_detr and train.trained == "all")
            self.model = parallel = DistributedDataParallel(  # sends rank 0's weights to all ranks
                self.model,
                gradient_as_bucket_view=True,
                find_unused_parameters=has_unused,
            )
            self._no_sync = parallel.no_sync
        self.average = WeightAverage(self.detector, train.ema) if train.ema else None
        if resume:
            parts = (self.detector, self.optimizer, self.average)
            self.state = restore(self.run, config, self.categories, self.state, *parts)
        state = self.state
        if self.validation is not None and state.score_on(_scored_on(self.validation, config)):
            self.reporter.message(
                "other validation frames or support frames: the AP of earlier evaluations does not "
                "count, and the next one replaces best.pth"
            )
        self.metrics = MetricsWriter(self.run, state.step, tensorboard=train.tensorboard)
        self.log = StepLog(self.metrics, self.schedule, self.clips_per_step, state.seconds)
        if distributed.is_main():
            self.run.start(config, state.step, state.evaluated_step)
            record = describe_run(str(self.device), train.precision, config.flat())
            processes = {"processes": state.world_size, "resumed": resume}
            self.run.append_metrics({"kind": "run", "step": state.step, **record, **processes})

    @property
    def result_detector(self) -> VideoDetector:
        """The detector to evaluate and save: the weight average, if there is one."""
        return self.detector if self.average is None else self.average.detector

    @property
    def is_stopped_early(self) -> bool:
        """Whether `train.patience` has run out."""
        return 0 < self.config.train.patience <= self.state.num_worse

    @property
    def is_finished(self) -> bool:
        """Whether nothing is left to train or to evaluate."""
        is_at_end = self.state.step >= self.schedule.total_steps
        return self.is_stopped_early or (is_at_end and not self._is_evaluation_due())

    def fit(self) -> TrainingResult:
        """Train until the last step, starting from the current state.

        On Ctrl-C or SIGTERM, the current step ends and last.pth is written before the signal
        takes effect.

        Raises:
            NonFiniteLossError: With the frames of the batch, which bad_batch.json describes.
                last.pth is from an earlier step.
            DataError: With the annotation or image that cannot be used.
        """
        self._print_summary()
        was_finished = self.is_finished
        with (
            Interruption(patient=distributed.is_launched()) as interruption,
            recording_bad_batch(self.run, self.config, self.schedule, len(self.dataset)),
            naming_lost_workers(),
        ):
            if self.state.step == 0:
                self.save()  # from here on, the run can be resumed
            self.log.start_lap()
            while not self.is_finished:
                if self._is_evaluation_due():
                    self._evaluate(interruption)
                    continue
                epoch = self.schedule.epoch_of(self.state.step + 1)
                label = f"epoch {epoch}/{self.schedule.num_epochs}"
                steps_left = self.schedule.steps_left(self.state.step)
                with self.reporter.progress(label, steps_left, "steps") as progress:
                    self.model.train()
                    for batches in self._remaining_batches():
                        num_boxes, must_stop = _agree(batches, interruption.requested)
                        self._step(batches, num_boxes)
                        if self.schedule.is_checkpoint_due(self.state.step):
                            self.save()
                        elif self.schedule.is_log_due(self.state.step):
                            self.log.write()
                        progress.advance(note=self.log.note)
                        if must_stop:
                            self.save()
                            self._print_resume_command()
                            interruption.take_effect()
                self.save()
        result = self._result()
        if not was_finished:
            self.reporter.message(f"checkpoint to use: {result.checkpoint} ({self._reason()})")
        return result

    def _step(self, batches: Sequence[TrainingBatch], num_boxes: float) -> None:
        """Take one optimizer step; only the matching waits for the device.

        Args:
            batches: The `train.accumulate` batches of the step, on the host. Their gradients add
                up to those of one large batch.
            num_boxes: Divisor of every loss: boxes in all batches, averaged over the ranks.
        """
        state, train = self.state, self.config.train
        rate = self.schedule.learning_rate(state.step)
        set_learning_rate(self.optimizer, rate)
        self.optimizer.zero_grad(set_to_none=True)
        losses: Losses
        for number, batch in enumerate(batches, start=1):
            torch.manual_seed(self._draw_seed(number))
            batch = batch.to(self.device, non_blocking=True)
            # DDP exchanges gradients once per step, in the last backward pass.
            exchange = nullcontext() if number == len(batches) else self._no_sync()
            with exchange, computing_in(train.precision):
                with torch.autocast(self.device.type, torch.bfloat16, train.precision == "bf16"):
                    output = self.model(batch.clip, batch.targets)
                part = self.criterion(output, batch.targets, num_boxes)
                part.total.backward()
            losses = part if number == 1 else losses + part
        grad_norm = nn.utils.clip_grad_norm_(self.detector.parameters(), train.clip_grad_norm)
        self.optimizer.step()
        state.step += 1
        if self.average is not None:
            self.average.update(state.step)
        files = [clip for batch in batches for clip in batch.files]
        self.log.add(state.step, rate, losses, grad_norm, files)

    def _draw_seed(self, number: int) -> int:
        """Return the seed of what the model draws for batch `number` of the next step.

        It depends on the step and not on what was drawn before, so that a resumed run draws the
        same.
        """
        words = [self.config.seed % 2**64, self.state.step, number, distributed.rank()]
        return int(np.random.SeedSequence(words).generate_state(1)[0])

    def _remaining_batches(self) -> Iterator[list[TrainingBatch]]:
        """Yield the batches of each step until the epoch or the run ends, on the host."""
        train, step = self.config.train, self.state.step
        epoch, first_step = self.schedule.next_step(step)
        loader = TrainingLoader(
            self.dataset,
            clips_per_gpu=train.clips_per_gpu,
            rank=distributed.rank(),
            world_size=self.state.world_size,
            epoch=epoch,
            first_step=first_step,
            workers=self.config.data.workers,
            seed=self.config.seed,
            accumulate=train.accumulate,
        )
        batches = iter(loader)
        for _ in range(self.schedule.steps_left(step)):
            start = time.monotonic()
            batches_of_step = list(islice(batches, train.accumulate))
            self.log.add_wait(time.monotonic() - start)
            yield batches_of_step

    def _is_evaluation_due(self) -> bool:
        step = self.state.step
        is_done = self.validation is None or step == self.state.evaluated_step
        return not is_done and self.schedule.is_evaluation_due(step)

    def _evaluate(self, interruption: Interruption) -> None:
        """Evaluate on the validation set, shared among the ranks; save best.pth if improved."""
        assert self.validation is not None
        state, epoch = self.state, self.schedule.epoch_of(self.state.step)
        try:
            # last.pth is from this step already, so a resumed run starts with this evaluation.
            with interruption.immediate():
                predictor = Predictor(
                    self.result_detector, self.config, self.categories, device=str(self.device)
                )
                scores = validate(predictor, self.validation, self.reporter)
        except (KeyboardInterrupt, SystemExit):
            self._print_resume_command()
            raise
        is_best = state.record_evaluation(scores)
        if distributed.is_main():
            self.metrics.write({"kind": "eval", "step": state.step, "epoch": epoch, **scores})
            if is_best:
                save_checkpoint(self.run.best, self._checkpoint())
        self.reporter.message(f"epoch {epoch}: {_described(scores)}{', the best so far' * is_best}")
        self.save()
        if self.is_stopped_early:
            reason = f"{state.num_worse} evaluation(s) without a better AP"
            self.reporter.message(f"stopped early: {reason}")

    def save(self) -> None:
        """Write last.pth, unless a loss so far is not finite."""
        self.log.write()
        self.state.seconds = self.log.seconds
        if distributed.is_main():
            training = training_state(self.state, self.detector, self.optimizer, self.average)
            self.run.keep_previous()
            save_checkpoint(self.run.last, self._checkpoint(training))
        self.log.start_lap()

    def _result(self) -> TrainingResult:
        state, best = self.state, self.state.best
        checkpoint = self.run.last if best is None else self.run.best
        return TrainingResult(
            self.run.path,
            state.step,
            state.seconds,
            best,
            checkpoint,
            "last step" if best is None else "AP",
        )

    def _reason(self) -> str:
        """Say why a checkpoint is the one to use."""
        if (best := self.state.best) is not None:
            return f"the best AP, {best['AP']:.4f}, of step {best['step']:,}"
        return "the last step; no evaluation" + (" has an AP" if self.validation else "")

    def _checkpoint(self, training: dict[str, Any] | None = None) -> Checkpoint:
        weights = self.result_detector.state_dict()
        run = describe_run(str(self.device), self.config.train.precision)
        return Checkpoint(self.config, self.categories, weights, training, run)

    def _print_summary(self) -> None:
        if self.is_finished:
            reason = "use --epochs N to train longer"
            if self.config.train.max_steps is not None:
                reason = "use --max-steps N, or --set train.max_steps=none, to train longer"
            if self.is_stopped_early:
                reason = "stopped early; use --set train.patience=0 to train to the end"
            self.reporter.message(f"{self.run.path}: already finished; {reason}")
            return
        lines = run_summary(
            self.config, self.state, self.schedule, self.videos, self.validation, self.detector
        )
        for line in (*lines, f"run folder: {self.run.path}"):
            self.reporter.message(line)

    def _print_resume_command(self) -> None:
        done = f"stopped after step {self.state.step} of {self.schedule.total_steps}"
        command = self.run.resume_command(distributed.launch_options())
        self.reporter.message(f"{done}; to resume: {command}")


def _require_that_it_can_score(validation: VideoSet, categories: Sequence[Category]) -> None:
    """Check a validation set now, and not after the first epoch.

    Raises:
        DataError: It has no class of the training set, or its first frame cannot be read.
        VideoError: Its first frame is in a video that cannot be read.
    """
    names, ids = [c.name for c in validation.categories], [c.id for c in validation.categories]
    ClassMatch(categories, validation.annotations_path, names, ids)
    with closing(FrameReader(validation, threads=1)) as reader:
        reader.read(0)


def _scored_on(validation: VideoSet, config: Config) -> str:
    """Identify what APs are comparable on, wherever the files are."""
    inference = config.inference
    return f"{digest(validation.annotations_path)}, {inference.supports} {inference.support}"


def _described(scores: Mapping[str, Any]) -> str:
    if scores["AP"] is None:
        return "AP is undefined: no box of the validation set counts"
    return ", ".join(f"{name} {scores[name]:.4f}" for name in ("AP", "AP50", "AP75"))


def _agree(batches: Sequence[TrainingBatch], stop: bool) -> tuple[float, bool]:
    """Return the number of boxes, averaged over the ranks, at least 1, and if any rank must stop.

    The hosts exchange this without waiting for a GPU, and all ranks stop after the same step.
    """
    num_boxes = sum(len(targets.labels) for batch in batches for targets in batch.targets)
    means = distributed.reduce_mean(torch.tensor([num_boxes, stop], dtype=torch.float64))
    return max(means[0].item(), 1.0), means[1].item() > 0
