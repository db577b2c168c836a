"""Summary of a run, printed when it starts."""

from __future__ import annotations

import numpy as np

from sparsevod_core.config import Config, ModelConfig, TrainConfig
from sparsevod_core.data.records import VideoSet
from sparsevod_core.model.video_detector import VideoDetector
from sparsevod_core.reporting import counted, some_of
from sparsevod_core.training.run_state import RunState
from sparsevod_core.training.schedule import Schedule

RECIPE_BATCH = 8  # clips per step that the presets' learning rates are for: 8 GPUs with one each


def run_summary(
    config: Config,
    state: RunState,
    schedule: Schedule,
    videos: VideoSet,
    validation: VideoSet | None,
    detector: VideoDetector,
) -> list[str]:
    """Return lines about the data, the model, the steps and the learning rate."""
    train = config.train
    clips_per_step = train.clips_per_gpu * train.accumulate * state.world_size
    where = f"{next(detector.parameters()).device.type}, {train.precision}"
    steps = f"{_steps(train, state, schedule, clips_per_step)}; {where}"
    lines = [_data(state, videos, validation), _model(config.model, detector), steps]
    if validation is not None:
        lines += _without_boxes(validation, train.patience)
    if clips_per_step != RECIPE_BATCH:
        scaled = train.learning_rate * clips_per_step / RECIPE_BATCH
        lines.append(
            f"learning rate: {train.learning_rate:g}, not scaled to the batch: a step has "
            f"{clips_per_step} clips, the recipe has {RECIPE_BATCH}; in proportion: "
            f"--set train.learning_rate={scaled:g}"
        )
    return lines


def _data(state: RunState, videos: VideoSet, validation: VideoSet | None) -> str:
    names = ", ".join(category.name for category in videos.categories[:6])
    more = ", ..." if len(videos.categories) > 6 else ""
    held_out = "no validation set, so last.pth is the result"
    if validation is not None:
        held_out = (
            f"validation: {counted(validation.num_frames, 'frame')} of "
            f"{counted(validation.num_videos, 'video')}"
        )
    return (
        f"data: {counted(state.num_clips, 'target frame')} of "
        f"{counted(videos.num_videos, 'video')}, {counted(len(videos.categories), 'class')} "
        f"({names}{more}); {held_out}"
    )


def _without_boxes(validation: VideoSet, patience: int) -> list[str]:
    """Return lines about the classes of the validation set that have no AP."""
    tables, categories = validation.tables, validation.categories
    with_boxes = set(np.unique(tables.labels[~tables.is_crowd]).tolist())
    names = [one.name for label, one in enumerate(categories) if label not in with_boxes]
    if not names:
        return []
    path = validation.annotations_path
    if len(names) < len(categories):
        return [
            f"{path}: no boxes and so no AP for {len(names)} of {len(categories)} classes: "
            f"{some_of(names)}; AP is the mean over the others"
        ]
    crowds = f" besides {counted(len(tables.labels), 'crowd box')}" if len(tables.labels) else ""
    ignored = f"; train.patience={patience} has no effect" if patience else ""
    return [
        f"{path}: no boxes{crowds}, so AP is undefined and last.pth is the result{ignored}; "
        "to select the best checkpoint, use --val with annotated videos"
    ]


def _model(model: ModelConfig, detector: VideoDetector) -> str:
    parameters = list(detector.parameters())
    total = sum(parameter.numel() for parameter in parameters)
    frozen = sum(parameter.numel() for parameter in parameters if not parameter.requires_grad)
    kind = f"model: {model.system}, {model.backbone}, {model.num_proposals} proposals"
    if model.system == "sparsevod":
        kind += f", {counted(model.num_stages, 'stage')}, TFE {model.tfe}, SPFA {model.spfa}"
    elif not model.temporal:
        kind += ", single frames"
    return f"{kind}; {total:,} parameters" + (f", {frozen:,} of them frozen" if frozen else "")


def _steps(train: TrainConfig, state: RunState, schedule: Schedule, clips_per_step: int) -> str:
    batch = counted(clips_per_step, "clip")
    factors = [f"{state.world_size} processes"] if state.world_size > 1 else []
    factors += [f"{train.accumulate} batches"] if train.accumulate > 1 else []
    if factors:
        batch += f" ({' x '.join([*factors, str(train.clips_per_gpu)])})"
    start = f", resuming from step {state.step:,}" if state.step else ""
    cut = ""
    if schedule.recipe_steps > schedule.total_steps:
        cut = f"; {train.schedule} schedule for the {schedule.recipe_steps:,} steps of all epochs"
    return (
        f"training: {counted(schedule.total_steps, 'step')} of {batch}, "
        f"{schedule.steps_per_epoch:,} per epoch{start}{cut}"
    )
