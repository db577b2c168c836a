"""SparseVOD: boxes of the refinement stages; attention by TFE and SPFA at every stage."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from sparsevod_core.figures.stage_view import StageNames
from sparsevod_core.inference.inspectors.inspector import (
    OWN,
    Inputs,
    Inspector,
    Keys,
    Layer,
    Stages,
    Step,
    points_of,
)
from sparsevod_core.model.backbone import STRIDES
from sparsevod_core.model.detector import SparseVOD


class SparseVODInspector(Inspector):
    """Stages of SparseVOD, or of Sparse R-CNN if TFE and SPFA are off."""

    def __init__(self, detector: SparseVOD, proposal_init: str) -> None:
        self._detector = detector
        self._proposal_init = proposal_init

    @property
    def names(self) -> StageNames:
        return StageNames(
            "Learned proposals",
            "learned box",
            f"{self._proposal_init} initialization",
            tuple(f"Stage {number}" for number in range(1, len(self._detector.stages) + 1)),
        )

    @property
    def watched(self) -> Sequence[nn.Module]:
        parts = [(stage.temporal_roi, stage.aggregation) for stage in self._detector.stages]
        return [part for of_stage in parts for part in of_stage if part is not None]

    def stages(self, step: Step) -> Stages:
        output = step.output
        best = output.logits[:, 0].float().sigmoid().max(dim=-1)
        return Stages(
            proposals_xyxy=output.proposals_xyxy[0],
            boxes_xyxy=output.boxes_xyxy[:, 0],
            scores=best.values,
            labels=best.indices,
        )

    def layers(self, step: Step, inputs: Inputs, stages: Stages) -> list[Layer]:
        layers = []
        frames = [*step.supports, OWN]
        for number, stage in enumerate(self._detector.stages, start=1):
            if stage.aggregation is not None:
                weights = stage.aggregation.weights(*inputs[stage.aggregation][0])[0]
                keys = Keys.of(frames, weights.shape[1] // len(frames))
                layers.append(Layer(name="SPFA", stage=number, weights=weights, keys=keys))
            if stage.temporal_roi is not None:
                temporal_roi = stage.temporal_roi
                roi_features, maps, _ = inputs[temporal_roi][0]
                count = roi_features.shape[1]
                positions = temporal_roi.best_positions(roi_features, maps)[0]
                shares = temporal_roi.weights(roi_features, maps)[0].mean(-1)  # [S + 1, Q]
                by_bin = shares.unflatten(1, (count, -1)).movedim(0, 1)  # [N, S + 1, bins]
                layers.append(
                    Layer(
                        name="TFE",
                        stage=number,
                        weights=by_bin.mean(-1),
                        keys=Keys.of([OWN, *step.supports], 1),
                        is_map=True,
                        points=points_of(
                            positions, count, maps.width, STRIDES[self._detector.support_level]
                        ),
                        point_weights=by_bin[:, 1:],
                    )
                )
        return layers

    def support_boxes(self, encoded: Any) -> Float[Tensor, "T n 4"]:
        """Return the boxes of a frame that is refined on its own, as support frames are."""
        refined = self._detector.refine_supports(encoded)
        return torch.stack([boxes_xyxy[0] for _, boxes_xyxy in refined])
