"""Where the proposals of a target frame look on its support frames, stage by stage."""

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
    """What went into TFE and SPFA, stage by stage, while the block of `recording` ran."""

    temporal_roi: list[tuple[Any, ...]] = field(default_factory=list)
    aggregation: list[tuple[Any, ...]] = field(default_factory=list)


@contextmanager
def recording(detector: SparseVOD) -> Iterator[Recording]:
    """Note what the detector's parts are given; it computes as without."""
    noted = Recording()
    hooks = []
    for stage in detector.stages:
        for part, inputs in (
            (stage.temporal_roi, noted.temporal_roi),
            (stage.aggregation, noted.aggregation),
        ):
            if part is not None:
                hooks.append(part.register_forward_pre_hook(_note(inputs)))
    try:
        yield noted
    finally:
        for hook in hooks:
            hook.remove()


@torch.inference_mode()
def support_boxes(detector: SparseVOD, supports: Pyramid) -> Tensor:
    """[T, S, N, 4] boxes of the support frames' proposals, which pass the stages alone."""
    return torch.stack([boxes_xyxy for _, boxes_xyxy in detector.refine_supports(supports)])


@torch.inference_mode()
def attention_of(
    detector: SparseVOD,
    noted: Recording,
    boxes_xyxy: Tensor,
    ratio: Sequence[float],
    num_supports: int,
) -> SupportAttention:
    """The weights of one target frame, from what was recorded of it.

    Args:
        detector: the one that was recorded.
        noted: of a run with one target.
        boxes_xyxy: of the support frames' proposals, see `support_boxes`.
        ratio: pixels of the source for a pixel that the detector sees, across and down.
        num_supports: S.
    """
    spfa, places, tfe = None, None, None
    if noted.aggregation:
        stages = []
        for stage, inputs in zip(detector.stages, noted.aggregation, strict=True):
            assert stage.aggregation is not None  # it was recorded
            weights = stage.aggregation.weights(*inputs)
            stages.append(weights[0].unflatten(-1, (num_supports + 1, -1)))
        spfa = _array(torch.stack(stages))
    if noted.temporal_roi:
        stride = STRIDES[detector.support_level]
        found, shares = [], []
        for stage, inputs in zip(detector.stages, noted.temporal_roi, strict=True):
            assert stage.temporal_roi is not None
            roi_features, maps, _ = inputs
            bins = (roi_features.shape[1], -1)  # of each proposal
            place = stage.temporal_roi.best_positions(roi_features, maps)[0].unflatten(1, bins)
            place = place.movedim(0, 1)  # [N, S, P P]
            width = maps.width
            found.append(torch.stack([place % width, place // width], dim=-1) * stride + stride / 2)
            weights = stage.temporal_roi.weights(roi_features, maps)[0].mean(-1)  # [F, Q]
            shares.append(weights.roll(-1, dims=0).unflatten(1, bins).movedim(0, 1))
        places = _array(torch.stack(found)) * np.array(ratio, np.float32)
        tfe = _array(torch.stack(shares))
    scale = np.array([*ratio, *ratio], np.float32)
    return SupportAttention(_array(boxes_xyxy) * scale, spfa, places, tfe)


def _note(inputs: list[tuple[Any, ...]]) -> Any:
    def hook(_: nn.Module, given: tuple[Any, ...]) -> None:
        inputs.append(given)

    return hook


def _array(values: Tensor) -> np.ndarray:
    return values.float().cpu().numpy()
