"""TFE's and SPFA's attention from the proposals of a target frame to its support frames."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sparsevod_core.figures.stage_view import SupportAttention
from sparsevod_core.model.backbone import STRIDES
from sparsevod_core.model.detector import SparseVOD
from sparsevod_core.model.pyramid import Pyramid


@dataclass(slots=True)
class Recording:
    """Inputs of TFE and SPFA at every stage."""

    temporal_roi: list[tuple[Any, ...]] = field(default_factory=list)
    aggregation: list[tuple[Any, ...]] = field(default_factory=list)


@contextmanager
def recording(detector: SparseVOD) -> Iterator[Recording]:
    """Record the inputs of TFE and SPFA while the block runs; results do not change."""
    recorded = Recording()
    hooks = []
    for stage in detector.stages:
        for part, inputs in (
            (stage.temporal_roi, recorded.temporal_roi),
            (stage.aggregation, recorded.aggregation),
        ):
            if part is not None:
                hooks.append(part.register_forward_pre_hook(_append_to(inputs)))
    try:
        yield recorded
    finally:
        for hook in hooks:
            hook.remove()


@torch.inference_mode()
def support_boxes(detector: SparseVOD, supports: Pyramid) -> Tensor:
    """Return the [T, S, N, 4] boxes of the support frames' proposals, each frame on its own."""
    return torch.stack([boxes_xyxy for _, boxes_xyxy in detector.refine_supports(supports)])


@torch.inference_mode()
def attention_of(
    detector: SparseVOD,
    recorded: Recording,
    boxes_xyxy: Tensor,
    ratio: Sequence[float],
    num_supports: int,
) -> SupportAttention:
    """Return the attention of one target frame.

    Args:
        detector: Detector that was recorded.
        recorded: Recording of a run with one target frame.
        boxes_xyxy: Boxes of the support frames' proposals, see `support_boxes`.
        ratio: Source pixels per pixel of the model's input, horizontally and vertically.
        num_supports: Number of support frames, S.
    """
    spfa, points, tfe = None, None, None
    if recorded.aggregation:
        stage_weights = []
        for stage, inputs in zip(detector.stages, recorded.aggregation, strict=True):
            assert stage.aggregation is not None  # it was recorded
            weights = stage.aggregation.weights(*inputs)
            stage_weights.append(weights[0].unflatten(-1, (num_supports + 1, -1)))
        spfa = _array(torch.stack(stage_weights))
    if recorded.temporal_roi:
        stride = STRIDES[detector.support_level]
        stage_points, stage_weights = [], []
        for stage, inputs in zip(detector.stages, recorded.temporal_roi, strict=True):
            assert stage.temporal_roi is not None
            roi_features, maps, _ = inputs
            bins = (roi_features.shape[1], -1)  # RoI bins of each proposal
            place = stage.temporal_roi.best_positions(roi_features, maps)[0].unflatten(1, bins)
            place = place.movedim(0, 1)  # [N, S, P P]
            cells = torch.stack([place % maps.width, place // maps.width], dim=-1)
            stage_points.append(cells * stride + stride / 2)
            weights = stage.temporal_roi.weights(roi_features, maps)[0].mean(-1)  # [F, Q]
            stage_weights.append(weights.roll(-1, dims=0).unflatten(1, bins).movedim(0, 1))
        points = _array(torch.stack(stage_points)) * np.array(ratio, np.float32)
        tfe = _array(torch.stack(stage_weights))
    scale = np.array([*ratio, *ratio], np.float32)
    return SupportAttention(_array(boxes_xyxy) * scale, spfa, points, tfe)


def _append_to(inputs: list[tuple[Any, ...]]) -> Any:
    def hook(_: nn.Module, args: tuple[Any, ...]) -> None:
        inputs.append(args)

    return hook


def _array(values: Tensor) -> np.ndarray:
    return values.float().cpu().numpy()
