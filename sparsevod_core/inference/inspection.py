"""What every stage of a detector makes of chosen frames of a video: to be drawn, or as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sparsevod_core.data.sampling import CausalSampler, uniform_supports, window_supports
from sparsevod_core.errors import CheckpointError, ConfigError
from sparsevod_core.figures.stage_view import (
    StageView,
    SupportFrame,
    end_objects,
    mean_overlap,
)
from sparsevod_core.inference.attention import attention_of, recording, support_boxes
from sparsevod_core.inference.predictor import Predictor
from sparsevod_core.model.support import SupportMemory
from sparsevod_core.structures import Category, Frame
from sparsevod_core.video.reader import VideoReader

SCHEMA = "sparsevod.stages/1"


@dataclass(frozen=True, slots=True, kw_only=True)
class StageInspection:
    """Chosen frames of a video on their way through the stages.

    Attributes:
        video: the file.
        num_frames: how many frames of it decode.
        frames: the chosen frames; their times count from the start of the video.
        supports: the support frames of each, by number.
        support: how they were chosen: `mode`, `supports` (how many), `window_stride`.
        views: proposals and boxes of each.
        categories: `categories[k]` is the class of label k.
        proposal_init: how the detector's proposals were initialised.
    """

    video: Path
    num_frames: int
    frames: tuple[Frame, ...]
    supports: tuple[tuple[int, ...], ...]
    support: dict[str, Any]
    views: tuple[StageView, ...]
    categories: tuple[Category, ...]
    proposal_init: str

    def to_dict(self, score: float) -> dict[str, Any]:
        """For JSON: every proposal at every stage, whatever its score.

        `sparsevod visualize-stages --help` describes the keys.

        Args:
            score: a box of the last stage with a greater score is an object to end on.
        """
        return {
            "schema": SCHEMA,
            "video": str(self.video),
            "num_frames": self.num_frames,
            "proposal_init": self.proposal_init,
            "support": self.support,
            "score": score,
            "categories": [{"id": one.id, "name": one.name} for one in self.categories],
            "frames": [
                self._frame_dict(frame, supports, view, score)
                for frame, supports, view in zip(
                    self.frames, self.supports, self.views, strict=True
                )
            ],
        }

    def _frame_dict(
        self, frame: Frame, supports: Sequence[int], view: StageView, score: float
    ) -> dict[str, Any]:
        objects = end_objects(view, score)
        best = objects.best.tolist()
        height, width = frame.image.shape[:2]
        return {
            "index": frame.index,
            "time_s": None if frame.time_s is None else float(frame.time_s),
            "width": width,
            "height": height,
            "supports": list(supports),
            "proposals_xyxy": _rounded(view.proposals_xyxy, 3),
            "proposals_mean_iou": round(mean_overlap(view.proposals_xyxy), 4),
            "ends_on": [best[end] if end >= 0 else None for end in objects.of_proposal.tolist()],
            "stages": [
                {
                    "stage": number,
                    "boxes_xyxy": _rounded(boxes_xyxy, 3),
                    "scores": _rounded(scores, 6),
                    "labels": [self.categories[label].name for label in labels],
                    "class_ids": [self.categories[label].id for label in labels],
                    **_looks(view, number - 1),
                }
                for number, (boxes_xyxy, scores, labels) in enumerate(
                    zip(view.stage_boxes, view.stage_scores, view.stage_labels, strict=True),
                    start=1,
                )
            ],
        }


def _looks(view: StageView, stage: int) -> dict[str, Any]:
    """Where each proposal looks at a stage: weights of the frames, and the strongest proposal."""
    looks: dict[str, Any] = {}
    attention = view.attention
    if attention is None:
        return looks
    if attention.spfa is not None:
        weights = attention.spfa[stage]  # [N, S+1, N]
        looks["spfa_weights"] = _rounded(weights.sum(axis=2), 4)
        others = weights[:, :-1].reshape(len(weights), -1)
        strongest = others.argmax(axis=1)
        count = weights.shape[2]
        looks["spfa_strongest"] = [
            {
                "support": view.supports[n // count].index,
                "proposal": n % count,
                "weight": round(float(weight), 4),
                "box_xyxy": _rounded(attention.boxes_xyxy[stage, n // count, n % count], 3),
            }
            for n, weight in zip(strongest.tolist(), others.max(axis=1), strict=True)
        ]
    if attention.tfe is not None:
        looks["tfe_weights"] = _rounded(attention.tfe[stage].mean(axis=2), 4)
    return looks


def inspect_stages(
    predictor: Predictor, video: Path | str, *, frames: Sequence[int] | None = None, count: int = 3
) -> StageInspection:
    """Run the detector on some frames of a video and keep what every stage says.

    Args:
        predictor: the detector, with the settings for support frames.
        video: a video file.
        frames: numbers of the frames, from 0; None: `count` of them, spread evenly.

    Raises:
        ConfigError: a frame that the video does not have.
        VideoError: a file that cannot be read.
        CheckpointError: a detector whose scores are no numbers.
    """
    predictor = predictor.plain()
    with VideoReader(video) as reader:
        num_frames = reader.num_frames()
        numbers = spread_evenly(num_frames, count) if frames is None else list(frames)
        for number in numbers:
            if not 0 <= number < num_frames:
                raise ConfigError(
                    f"no frame {number} in {video}: it has {num_frames} frames, "
                    f"0 to {num_frames - 1}"
                )
        targets = [_from_start(frame, reader) for frame in reader.frames_at(numbers)]
        supports = [_supports(predictor, number, num_frames) for number in numbers]
        views = []
        remembered: tuple[list[int], _Supports | None] = ([], None)
        for target, chosen in zip(targets, supports, strict=True):
            if chosen != remembered[0]:  # with `uniform` only once
                remembered = chosen, _Supports.of(predictor, reader.frames_at(chosen))
            views.append(_view(predictor, target, remembered[1]))
    settings = predictor.config.inference
    return StageInspection(
        video=Path(video),
        num_frames=num_frames,
        frames=tuple(targets),
        supports=tuple(map(tuple, supports)),
        support={
            "mode": settings.support,
            "supports": predictor.num_supports,
            "window_stride": settings.window_stride,
        },
        views=tuple(views),
        categories=predictor.categories,
        proposal_init=predictor.config.model.proposal_init,
    )


def predict_stages(
    predictor: Predictor, frames: Sequence[Frame], memory: SupportMemory | None
) -> list[StageView]:
    """Learned proposals and every stage's boxes of target frames of one video.

    Args:
        predictor: the detector.
        frames: the targets.
        memory: what the plain predictor remembers of the video's support frames; None: every frame
            is seen alone.

    Raises:
        CheckpointError: a detector whose scores are no numbers.
    """
    images, sizes = predictor.as_seen([frame.image for frame in frames])
    with predictor.computing():
        output = predictor.detector.detect(predictor.detector.encode(images, sizes), memory)
    best = output.logits.float().sigmoid().max(dim=-1)
    if not best.values.isfinite().all():
        raise CheckpointError(
            "the model's scores are not finite numbers",
            hint="training has diverged: look at the loss in the run's metrics.jsonl",
        )
    views = []
    for position, frame in enumerate(frames):
        ratio = torch.tensor(_ratio(frame.image, sizes[position])).repeat(2)
        views.append(
            StageView(
                image=frame.image,
                proposals_xyxy=(output.proposals_xyxy[position].float().cpu() * ratio).numpy(),
                stage_boxes=(output.boxes_xyxy[:, position].float().cpu() * ratio).numpy(),
                stage_scores=best.values[:, position].cpu().numpy(),
                stage_labels=best.indices[:, position].cpu().numpy(),
                title=_title(frame),
            )
        )
    return views


def spread_evenly(num_frames: int, count: int) -> list[int]:
    """The middle frames of `count` equal parts of a video; each once where it is shorter."""
    return sorted({int((part + 0.5) * num_frames / count) for part in range(count)})


@dataclass(frozen=True, slots=True)
class _Supports:
    """Support frames: themselves, what is remembered of them, and where their proposals are."""

    frames: tuple[SupportFrame, ...]
    memory: SupportMemory
    boxes_xyxy: Tensor

    @classmethod
    def of(cls, predictor: Predictor, frames: Sequence[Frame]) -> _Supports | None:
        memory = predictor.remember([frame.image for frame in frames])
        if memory is None:
            return None
        boxes = []
        for frame in frames:  # one by one: all at once take too much memory
            images, sizes = predictor.as_seen([frame.image])
            with predictor.computing():
                encoded = predictor.detector.encode(images, sizes)
                boxes.append(support_boxes(predictor.detector, encoded))
        numbered = tuple(SupportFrame(frame.index, frame.image) for frame in frames)
        return cls(numbered, memory, torch.cat(boxes, dim=1))


def _view(predictor: Predictor, target: Frame, supports: _Supports | None) -> StageView:
    """A target with what it makes of its support frames."""
    if supports is None:
        return predict_stages(predictor, [target], None)[0]
    with recording(predictor.detector) as noted:
        (view,) = predict_stages(predictor, [target], supports.memory)
    _, sizes = predictor.as_seen([target.image])
    ratio = _ratio(target.image, sizes[0])
    with predictor.computing():
        attention = attention_of(
            predictor.detector, noted, supports.boxes_xyxy, ratio, len(supports.frames)
        )
    return replace(view, supports=supports.frames, attention=attention)


def _ratio(image: np.ndarray, size: Tensor) -> tuple[float, float]:
    """Pixels of the frame for one that the detector sees, across and down."""
    height, width = image.shape[:2]
    resized_height, resized_width = size.tolist()
    return width / resized_width, height / resized_height


def _supports(predictor: Predictor, target: int, num_frames: int) -> list[int]:
    settings, count = predictor.config.inference, predictor.num_supports
    if settings.support == "uniform":
        return uniform_supports(num_frames, count)
    if settings.support == "window":
        return window_supports(target, num_frames, count, settings.window_stride)
    sampler = CausalSampler(count)
    for seen in range(target):
        sampler.add(seen)
    return sampler.supports()


def _from_start(frame: Frame, reader: VideoReader) -> Frame:
    return frame if frame.time_s is None else replace(frame, time_s=frame.time_s - reader.start_s)


def _title(frame: Frame) -> str:
    time = "" if frame.time_s is None else f"\n{float(frame.time_s):.2f} s"
    return f"frame {frame.index}{time}"


def _rounded(values: np.ndarray, digits: int) -> list[Any]:
    return np.round(values.astype(float), digits).tolist()
