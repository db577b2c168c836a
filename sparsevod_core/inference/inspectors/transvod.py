"""TransVOD: boxes of the decoder layers and of the temporal part; attention to support queries."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from sparsevod_core.figures.stage_view import StageNames
from sparsevod_core.inference.inspectors.inspector import (
    Inputs,
    Inspector,
    Keys,
    Layer,
    Stages,
    Step,
)
from sparsevod_core.model.transvod.detector import EncodedFrames, TransVOD


class TransVODInspector(Inspector):
    """Stages of TransVOD, or of Deformable DETR without the temporal part.

    Proposals are the reference points, boxes without a size. For a frame without support frames,
    the temporal stage repeats the last decoder layer.
    """

    def __init__(self, detector: TransVOD) -> None:
        self._detector = detector

    @property
    def names(self) -> StageNames:
        layers = range(1, len(self._detector.decoder.layers) + 1)
        temporal = () if self._detector.temporal is None else ("Temporal",)
        stages = (*(f"Decoder {number}" for number in layers), *temporal)
        return StageNames("Reference points", "reference point", "one per query", stages)

    @property
    def watched(self) -> Sequence[nn.Module]:
        temporal = self._detector.temporal
        if temporal is None:
            return ()
        return [layer.support_attention for layer in temporal.query_layers]

    def stages(self, step: Step) -> Stages:
        of_frame = step.encoded.output
        logits, boxes_xyxy = of_frame.logits[:, 0], of_frame.boxes_xyxy[:, 0]
        if self._detector.temporal is not None:
            logits = torch.cat([logits, step.output.logits[-1:, 0]])
            boxes_xyxy = torch.cat([boxes_xyxy, step.output.boxes_xyxy[-1:, 0]])
        best = logits.float().sigmoid().max(dim=-1)
        return Stages(
            proposals_xyxy=of_frame.proposals_xyxy[0],
            boxes_xyxy=boxes_xyxy,
            scores=best.values,
            labels=best.indices,
        )

    def layers(self, step: Step, inputs: Inputs, stages: Stages) -> list[Layer]:
        temporal, memory = self._detector.temporal, step.memory
        assert temporal is not None  # there is a memory
        num_queries = memory.queries.shape[2]
        everywhere = Keys.of(step.supports, num_queries)
        best = memory.best_rows(max(temporal.rows_per_support) * memory.num_supports)[0].cpu()
        layers = []
        for number, layer in enumerate(temporal.query_layers, start=1):
            ((queries, supports, _),) = inputs[layer.support_attention]
            _, weights = layer.support_attention(queries, supports, supports, need_weights=True)
            read = best[: supports.shape[1]]
            keys = Keys(everywhere.frames[read], everywhere.rows[read])
            layers.append(
                Layer(
                    name=f"Temporal{number}",
                    stage=len(stages.scores),
                    weights=weights[0],
                    keys=keys,
                )
            )
        return layers

    def support_boxes(self, encoded: EncodedFrames) -> Float[Tensor, "T n 4"]:
        return encoded.output.boxes_xyxy[-1].expand(len(self.names.stages), -1, -1)
