"""SELSA and Temporal RoI Align: attention to support proposals and support maps."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from sparsevod_core.inference.inspectors.inspector import (
    OWN,
    Inputs,
    Keys,
    Layer,
    Stages,
    Step,
    points_of,
)
from sparsevod_core.inference.inspectors.two_stage import HEAD, TwoStageInspector
from sparsevod_core.model.proposal_aggregation import AttentionAggregation
from sparsevod_core.model.two_stage.faster_rcnn import EncodedFrames
from sparsevod_core.model.two_stage.selsa import Selsa
from sparsevod_core.model.two_stage.selsa_memory import SelsaMemory
from sparsevod_core.model.two_stage.troi import Troi


class SelsaInspector(TwoStageInspector):
    """Stages of SELSA, with the attention after each fully connected layer (FC)."""

    def __init__(self, detector: Selsa) -> None:
        super().__init__(detector)
        self._detector = detector

    @property
    def watched(self) -> Sequence[nn.Module]:
        aggregations = self._detector.head.aggregations
        return [part for one in aggregations for part in (one.query, one.key)]

    def layers(self, step: Step, inputs: Inputs, stages: Stages) -> list[Layer]:
        return self.proposal_layers(step, step.memory, inputs, stages)

    def proposal_layers(
        self, step: Step, memory: SelsaMemory, inputs: Inputs, stages: Stages
    ) -> list[Layer]:
        """Return the attention to the proposals of support frames and of the target itself."""
        own = step.encoded.best(self._detector.num_support_proposals).proposals.valid
        mask = torch.cat([memory.is_valid, own], dim=1)[:, None, None]
        keys = Keys.of([*step.supports, OWN], own.shape[1])
        layers = []
        for number, aggregation in enumerate(self._detector.head.aggregations):
            ((own_features,),) = inputs[aggregation.key]
            key = torch.cat([memory.layers[number][0], aggregation.key(own_features)], dim=1)
            layers.append(self.fc(number, aggregation, inputs, stages, key, mask, keys))
        return layers

    def fc(
        self,
        number: int,
        aggregation: AttentionAggregation,
        inputs: Inputs,
        stages: Stages,
        key: Float[Tensor, "1 keys F"],
        mask: Bool[Tensor, "1 1 1 keys"] | None,
        keys: Keys,
    ) -> Layer:
        """Return the attention after one FC to keys of known origin."""
        ((features,),) = inputs[aggregation.query]
        count = len(stages.proposals_xyxy)
        weights = aggregation.shares(features[:, :count], key, mask)[0]
        return Layer(name=f"FC{number + 1}", stage=HEAD, weights=weights, keys=keys)

    def support_boxes(self, encoded: EncodedFrames) -> Float[Tensor, "T n 4"]:
        boxes = encoded.best(self._detector.num_support_proposals).proposals.boxes
        return boxes.expand(len(self.names.stages), -1, -1)


class TroiInspector(SelsaInspector):
    """Stages of Temporal RoI Align: SELSA's, and TFE's weights and most similar positions."""

    _detector: Troi

    @property
    def watched(self) -> Sequence[nn.Module]:
        return [*super().watched, self._detector.temporal_roi.aggregation]

    def layers(self, step: Step, inputs: Inputs, stages: Stages) -> list[Layer]:
        temporal_roi, memory = self._detector.temporal_roi, step.memory
        ((bins, similar, roi_size, _),) = inputs[temporal_roi.aggregation]
        # Frames: the target's RoI, the support maps, the target's map.
        shares = temporal_roi.aggregation.weights(bins, similar, roi_size)[0].mean(-1)
        by_bin = shares.unflatten(1, (-1, roi_size**2)).movedim(0, 1)  # [N, S + 2, bins]
        positions = memory.maps.keys.top(bins, 1)[0][0, ..., 0]  # [S, Q]
        points = points_of(positions, len(by_bin), memory.maps.width, self._detector.rpn.stride)
        count = len(stages.proposals_xyxy)
        tfe = Layer(
            name="TFE",
            stage=HEAD,
            weights=by_bin[:count].mean(-1),
            keys=Keys.of([OWN, *step.supports, OWN], 1),
            is_map=True,
            points=points[:count],
            point_weights=by_bin[:count, 1:-1],
        )
        return [tfe, *self.proposal_layers(step, memory.proposals, inputs, stages)]
