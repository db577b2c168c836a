"""FGFA: weights with which the maps of the neighbors are averaged."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn
from torchvision.ops import roi_align

from sparsevod_core.inference.inspectors.inspector import OWN, Inputs, Keys, Layer, Stages, Step
from sparsevod_core.inference.inspectors.two_stage import HEAD, TwoStageInspector
from sparsevod_core.model.fgfa.detector import FGFA
from sparsevod_core.model.fgfa.map_aggregation import similarity


class FGFAInspector(TwoStageInspector):
    """Stages of FGFA, with the mean weight of each neighbor's map under the box of the head."""

    def __init__(self, detector: FGFA) -> None:
        super().__init__(detector)
        self._detector = detector

    @property
    def watched(self) -> Sequence[nn.Module]:
        return [self._detector.map_aggregation.embed]

    def layers(self, step: Step, inputs: Inputs, stages: Stages) -> list[Layer]:
        embed = self._detector.map_aggregation.embed
        maps = torch.cat([maps for (maps,) in inputs[embed]])  # the target's, then the neighbors'
        embedded = torch.cat([embed(one[None]) for one in maps])
        weights = similarity(embedded, embedded[:1])[:, 0]  # [S + 1, h, w]
        boxes = [stages.boxes_xyxy[HEAD - 1].float()]
        scale = 1 / self._detector.rpn.stride
        means = roi_align(weights[None].float(), boxes, 1, scale, aligned=True)[..., 0, 0]
        shares = means / means.sum(dim=1, keepdim=True).clamp(min=1e-12)
        keys = Keys.of([OWN, *step.supports], 1)
        return [Layer(name="Map", stage=HEAD, weights=shares, keys=keys, is_map=True)]
