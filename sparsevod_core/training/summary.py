"""What is about to be trained, in a few lines."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sparsevod_core import distributed

if TYPE_CHECKING:
    from sparsevod_core.training.trainer import Trainer

RECIPE_BATCH = 8  # clips a step that the presets' learning rates are for: one on each of 8 GPUs


def introduction(trainer: Trainer) -> list[str]:
    """Data, model, schedule, device and learning rate of a run; or that it is finished already."""
    if trainer.is_stopped_early:
        more = "stopped early; --set train.patience=0 trains to the end"
        return [f"{trainer.run.path}: finished already, {more}"]
    if trainer.is_finished:
        return [f"{trainer.run.path}: finished already; --epochs N trains longer"]
    return [_data(trainer), _model(trainer), _steps(trainer), *_rate(trainer), _where(trainer)]


def _data(trainer: Trainer) -> str:
    videos, validation = trainer.videos, trainer.validation
    names = ", ".join(category.name for category in trainer.categories[:6])
    more = ", ..." if len(trainer.categories) > 6 else ""
    held_out = (
        "no validation set, so last.pth is the result"
        if validation is None
        else f"validation: {validation.num_frames:,} frames of {validation.num_videos:,} videos"
    )
    return (
        f"data: {len(trainer.dataset):,} target frames of {videos.num_videos:,} videos, "
        f"{len(trainer.categories)} classes ({names}{more}); {held_out}"
    )


def _model(trainer: Trainer) -> str:
    model = trainer.config.model
    parameters = list(trainer.detector.parameters())
    total = sum(parameter.numel() for parameter in parameters)
    trained = sum(parameter.numel() for parameter in parameters if parameter.requires_grad)
    frozen = f", {total - trained:,} of them frozen" if trained < total else ""
    return (
        f"model: {model.backbone}, {model.num_stages} stages, {model.num_proposals} proposals, "
        f"TFE {model.tfe}, SPFA {model.spfa}; {total:,} parameters{frozen}"
    )


def _steps(trainer: Trainer) -> str:
    train, schedule, count = trainer.config.train, trainer.schedule, distributed.world_size()
    batch = f"{trainer.clips_per_step} clips" if trainer.clips_per_step > 1 else "1 clip"
    factors = [f"{count} processes"] if count > 1 else []
    factors += [f"{train.accumulate} batches"] if train.accumulate > 1 else []
    if factors:
        batch += f" ({' x '.join([*factors, str(train.clips_per_gpu)])})"
    start = f", from step {trainer.position.step:,} on" if trainer.position.step else ""
    cut = ""
    if schedule.recipe_steps > schedule.total_steps:
        cut = f"; {train.schedule} schedule over all {schedule.recipe_steps:,} steps of the epochs"
    return (
        f"training: {schedule.total_steps:,} steps of {batch}, "
        f"{schedule.steps_per_epoch:,} an epoch{start}{cut}; "
        f"{trainer.device.type}, {train.precision}"
    )


def _rate(trainer: Trainer) -> list[str]:
    rate, batch = trainer.config.train.learning_rate, trainer.clips_per_step
    if batch == RECIPE_BATCH:
        return []
    scaled = rate * batch / RECIPE_BATCH
    return [
        f"learning rate: {rate:g} as set, not scaled, though a step has {batch} clips where the "
        f"recipe has {RECIPE_BATCH}; in proportion it would be "
        f"--set train.learning_rate={scaled:g}"
    ]


def _where(trainer: Trainer) -> str:
    return f"run folder: {trainer.run.path}"
