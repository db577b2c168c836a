"""Inspection of a detector: proposals, boxes and attention at every stage, for chosen frames."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from sparsevod_core.errors import ConfigError
from sparsevod_core.figures.stage_view import (
    LayerAttention,
    StageNames,
    StageView,
    end_objects,
    mean_overlap,
)
from sparsevod_core.inference.inspectors import inspector_of
from sparsevod_core.inference.inspectors.viewer import Viewer
from sparsevod_core.inference.inspectors.visit import go_through, visit
from sparsevod_core.inference.predictor import Predictor
from sparsevod_core.reporting import Reporter, SilentReporter
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
        system: `model.system`.
        names: What the stages are called.
        proposal_init: Initialization of SparseVOD's learned proposals; None for other systems.
    """

    video: Path
    num_frames: int
    frames: tuple[Frame, ...]
    supports: tuple[tuple[int, ...], ...]
    support: dict[str, Any]
    views: tuple[StageView, ...]
    categories: tuple[Category, ...]
    system: str
    names: StageNames
    proposal_init: str | None

    def to_dict(self, score: float) -> dict[str, Any]:
        """Return every proposal at every stage, whatever its score, for JSON.

        `sparsevod visualize-stages --help` describes the keys.

        Args:
            score: Score above which a box of the last stage counts as an object.
        """
        return {
            "schema": SCHEMA,
            "video": str(self.video),
            "system": self.system,
            "num_frames": self.num_frames,
            **({} if self.proposal_init is None else {"proposal_init": self.proposal_init}),
            "support": self.support,
            "score": score,
            "categories": [{"id": one.id, "name": one.name} for one in self.categories],
            "frames": [
                self._frame_dict(frame, view, score)
                for frame, view in zip(self.frames, self.views, strict=True)
            ],
        }

    def _frame_dict(self, frame: Frame, view: StageView, score: float) -> dict[str, Any]:
        objects = end_objects(view, score)
        best = objects.best.tolist()
        height, width = frame.image.shape[:2]
        return {
            "index": frame.index,
            "time_s": None if frame.time_s is None else float(frame.time_s),
            "width": width,
            "height": height,
            "supports": [support.index for support in view.supports],
            "proposals_xyxy": _rounded(view.proposals_xyxy, 3),
            **(
                {}
                if view.proposal_scores is None
                else {"proposal_scores": _rounded(view.proposal_scores, 6)}
            ),
            "proposals_mean_iou": round(mean_overlap(view.proposals_xyxy), 4),
            "ends_on": [best[end] if end >= 0 else None for end in objects.of_proposal.tolist()],
            "stages": [
                {
                    "stage": number,
                    "name": self.names.stages[number - 1],
                    "boxes_xyxy": _rounded(boxes_xyxy, 3),
                    "scores": _rounded(scores, 6),
                    "labels": [self.categories[label].name for label in labels],
                    "class_ids": [self.categories[label].id for label in labels],
                    **_attention_dict(view, number),
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
    for layer in view.attention:
        if layer.stage != stage:
            continue
        name = layer.name.lower()
        values[f"{name}_weights"] = _rounded(layer.weights, 4)
        if layer.proposals is not None:
            values[f"{name}_strongest"] = _strongest(view, layer)
    return values


def _strongest(view: StageView, layer: LayerAttention) -> list[dict[str, Any]]:
    """Return the support proposal with the largest weight for each proposal."""
    assert layer.proposals is not None and layer.boxes_xyxy is not None
    count = layer.proposals.shape[2]
    of_supports = layer.proposals.reshape(len(layer.proposals), -1)
    strongest = of_supports.argmax(axis=1)
    return [
        {
            "support": view.supports[n // count].index,
            "proposal": n % count,
            "weight": round(float(weight), 4),
            "box_xyxy": _rounded(layer.boxes_xyxy[n // count, n % count], 3),
        }
        for n, weight in zip(strongest.tolist(), of_supports.max(axis=1), strict=True)
    ]


def inspect_stages(
    predictor: Predictor,
    video: Path | str,
    *,
    frames: Sequence[int] | None = None,
    count: int = 3,
    reporter: Reporter | None = None,
) -> StageInspection:
    """Run the detector on some frames of a video and keep the results of every stage.

    MAMBA and MEGA also run on all frames before the last of them, as they learn from each.

    Args:
        predictor: Detector, with the settings for support frames.
        video: Path of a video file.
        frames: Numbers of the frames, from 0; None: `count` frames, spread evenly.
        count: Number of frames without `frames`.
        reporter: Receives the progress through frames before the chosen ones.

    Raises:
        ConfigError: The video does not have one of the frames.
        VideoError: The video cannot be read.
        CheckpointError: The detector's scores are not finite.
    """
    predictor = predictor.plain()
    model = predictor.config.model
    inspector = inspector_of(predictor.detector, model)
    with open_file(video) as reader:
        num_frames = reader.num_frames()
        numbers = spread_evenly(num_frames, count) if frames is None else list(frames)
        for number in numbers:
            if not 0 <= number < num_frames:
                raise ConfigError(
                    f"no frame {number} in {video}: it has {num_frames} frames, "
                    f"0 to {num_frames - 1}"
                )
        if predictor.detector.is_ordered:
            looks = go_through(predictor, inspector, reader, numbers, reporter or SilentReporter())
        else:
            looks = visit(predictor, inspector, reader, numbers)
        viewer = Viewer(predictor, inspector, reader)
        views = [viewer.view(look) for look in looks]
    plan = [(look.step.supports, look.step.global_supports) for look in looks]
    return StageInspection(
        video=Path(video),
        num_frames=num_frames,
        frames=tuple(_from_start(look.frame, reader) for look in looks),
        supports=tuple((*near, *anywhere) for near, anywhere in plan),
        support=predictor.supports.header,
        views=tuple(views),
        categories=predictor.categories,
        system=model.system,
        names=inspector.names,
        proposal_init=model.proposal_init if model.system == "sparsevod" else None,
    )


def stage_names(predictor: Predictor) -> StageNames:
    """Return what the stages of a detector are called."""
    return inspector_of(predictor.detector, predictor.config.model).names


def spread_evenly(num_frames: int, count: int) -> list[int]:
    """Return the middle frames of `count` equal parts of a video, without repetition."""
    return sorted({int((part + 0.5) * num_frames / count) for part in range(count)})


def _from_start(frame: Frame, reader: OpenVideo) -> Frame:
    return frame if frame.time_s is None else replace(frame, time_s=frame.time_s - reader.start_s)


def _rounded(values: np.ndarray, digits: int) -> list[Any]:
    return np.round(values.astype(float), digits).tolist()
