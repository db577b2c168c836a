"""Inspection of a detector: proposals, boxes and attention at every stage, for chosen frames."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sparsevod_core.errors import ConfigError
from sparsevod_core.figures.stage_view import (
    StageView,
    SupportFrame,
    end_objects,
    mean_overlap,
)
from sparsevod_core.inference.attention import attention_of, recording, support_boxes
from sparsevod_core.inference.predictor import Predictor
from sparsevod_core.inference.readout import require_finite
from sparsevod_core.inference.support_frames import support_numbers
from sparsevod_core.model.detector import SparseVOD
from sparsevod_core.model.support import SupportMemory
from sparsevod_core.structures import Category, Frame
from sparsevod_core.video.opening import OpenVideo, open_file

SCHEMA = "sparsevod.stages/1"


@dataclass(frozen=True, slots=True, kw_only=True)
class StageInspection:
    """Results of every stage for chosen frames of a video.

    Attributes:
        video: Path of the video file.
        num_frames: Number of frames in the video.
        frames: Chosen frames; their times count from the start of the video.
        supports: Numbers of the support frames of each chosen frame.
        support: How support frames are chosen: `mode`, `supports` (their number), `window_stride`.
        views: Proposals, boxes and attention of each chosen frame.
        categories: The model's classes, `categories[label]`.
        proposal_init: Initialization of the learned proposals.
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
        """Return every proposal at every stage, whatever its score, for JSON.

        `sparsevod visualize-stages --help` describes the keys.

        Args:
            score: Score above which a box of the last stage counts as an object.
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
                    **_attention_dict(view, number - 1),
                }
                for number, (boxes_xyxy, scores, labels) in enumerate(
                    zip(view.stage_boxes, view.stage_scores, view.stage_labels, strict=True),
                    start=1,
                )
            ],
        }


def _attention_dict(view: StageView, stage: int) -> dict[str, Any]:
    """Return each proposal's attention at a stage: frame weights, and the strongest proposal."""
    values: dict[str, Any] = {}
    attention = view.attention
    if attention is None:
        return values
    if attention.spfa is not None:
        weights = attention.spfa[stage]  # [N, S+1, N]
        values["spfa_weights"] = _rounded(weights.sum(axis=2), 4)
        of_supports = weights[:, :-1].reshape(len(weights), -1)
        strongest = of_supports.argmax(axis=1)
        count = weights.shape[2]
        values["spfa_strongest"] = [
            {
                "support": view.supports[n // count].index,
                "proposal": n % count,
                "weight": round(float(weight), 4),
                "box_xyxy": _rounded(attention.boxes_xyxy[stage, n // count, n % count], 3),
            }
            for n, weight in zip(strongest.tolist(), of_supports.max(axis=1), strict=True)
        ]
    if attention.tfe is not None:
        values["tfe_weights"] = _rounded(attention.tfe[stage].mean(axis=2), 4)
    return values


def inspect_stages(
    predictor: Predictor, video: Path | str, *, frames: Sequence[int] | None = None, count: int = 3
) -> StageInspection:
    """Run the detector on some frames of a video and keep the results of every stage.

    Args:
        predictor: Detector, with the settings for support frames.
        video: Path of a video file.
        frames: Numbers of the frames, from 0; None: `count` frames, spread evenly.
        count: Number of frames without `frames`.

    Raises:
        ConfigError: The video does not have one of the frames.
        VideoError: The video cannot be read.
        CheckpointError: The detector's scores are not finite.
    """
    predictor = predictor.plain()
    _sparsevod(predictor)
    with open_file(video) as reader:
        num_frames = reader.num_frames()
        numbers = spread_evenly(num_frames, count) if frames is None else list(frames)
        for number in numbers:
            if not 0 <= number < num_frames:
                raise ConfigError(
                    f"no frame {number} in {video}: it has {num_frames} frames, "
                    f"0 to {num_frames - 1}"
                )
        targets = [_from_start(frame, reader) for frame in reader.frames_at(numbers)]
        supports = [
            one.supports for one in support_numbers(numbers, num_frames, predictor.supports)
        ]
        views = []
        remembered: tuple[list[int], _Supports | None] = ([], None)
        for target, chosen in zip(targets, supports, strict=True):
            if chosen != remembered[0]:  # with `uniform` only once
                remembered = chosen, _Supports.of(predictor, reader.frames_at(chosen))
            views.append(_view(predictor, target, remembered[1]))
    return StageInspection(
        video=Path(video),
        num_frames=num_frames,
        frames=tuple(targets),
        supports=tuple(map(tuple, supports)),
        support=predictor.supports.header,
        views=tuple(views),
        categories=predictor.categories,
        proposal_init=predictor.config.model.proposal_init,
    )


def predict_stages(
    predictor: Predictor, frames: Sequence[Frame], memory: SupportMemory | None
) -> list[StageView]:
    """Return learned proposals and every stage's boxes for target frames of one video.

    Args:
        predictor: Detector, made by `Predictor.plain`.
        frames: Target frames.
        memory: Memory of the video's support frames, from the same predictor; None: none.

    Raises:
        CheckpointError: The detector's scores are not finite.
    """
    images, sizes = predictor.as_seen([frame.image for frame in frames])
    with predictor.computing():
        output = predictor.detector.detect(predictor.detector.encode(images, sizes), memory)
    best = output.logits.float().sigmoid().max(dim=-1)
    require_finite(best.values.cpu().numpy())
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
    """Return the middle frames of `count` equal parts of a video, without repetition."""
    return sorted({int((part + 0.5) * num_frames / count) for part in range(count)})


@dataclass(frozen=True, slots=True)
class _Supports:
    """Support frames, the detector's memory of them, and [T, S, N, 4] boxes of their proposals."""

    frames: tuple[SupportFrame, ...]
    memory: SupportMemory
    boxes_xyxy: Tensor

    @classmethod
    def of(cls, predictor: Predictor, frames: Sequence[Frame]) -> _Supports | None:
        memory = predictor.remember([frame.image for frame in frames])
        if memory is None:
            return None
        boxes = []
        for frame in frames:  # one by one, to bound the memory
            images, sizes = predictor.as_seen([frame.image])
            with predictor.computing():
                encoded = predictor.detector.encode(images, sizes)
                boxes.append(support_boxes(_sparsevod(predictor), encoded))
        numbered = tuple(SupportFrame(frame.index, frame.image) for frame in frames)
        return cls(numbered, memory, torch.cat(boxes, dim=1))


def _view(predictor: Predictor, target: Frame, supports: _Supports | None) -> StageView:
    """Return the view of a target frame, with its attention to the support frames."""
    if supports is None:
        return predict_stages(predictor, [target], None)[0]
    detector = _sparsevod(predictor)
    with recording(detector) as recorded:
        (view,) = predict_stages(predictor, [target], supports.memory)
    _, sizes = predictor.as_seen([target.image])
    ratio = _ratio(target.image, sizes[0])
    with predictor.computing():
        attention = attention_of(
            detector, recorded, supports.boxes_xyxy, ratio, len(supports.frames)
        )
    return replace(view, supports=supports.frames, attention=attention)


def _sparsevod(predictor: Predictor) -> SparseVOD:
    """Return the detector.

    Raises:
        ConfigError: It has no stages.
    """
    if not isinstance(predictor.detector, SparseVOD):
        system = predictor.config.model.system
        raise ConfigError(f"model.system={system}: the stages of this detector cannot be shown")
    return predictor.detector


def _ratio(image: np.ndarray, size: Tensor) -> tuple[float, float]:
    """Return frame pixels per pixel of the detector's input, horizontally and vertically."""
    height, width = image.shape[:2]
    resized_height, resized_width = size.tolist()
    return width / resized_width, height / resized_height


def _from_start(frame: Frame, reader: OpenVideo) -> Frame:
    return frame if frame.time_s is None else replace(frame, time_s=frame.time_s - reader.start_s)


def _title(frame: Frame) -> str:
    time = "" if frame.time_s is None else f"\n{float(frame.time_s):.2f} s"
    return f"frame {frame.index}{time}"


def _rounded(values: np.ndarray, digits: int) -> list[Any]:
    return np.round(values.astype(float), digits).tolist()
