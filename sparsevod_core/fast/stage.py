"""One stage of the temporal dynamic head with its support frames in a bank (model/stage.py)."""

from __future__ import annotations

import copy

import torch
from jaxtyping import Float
from torch import Tensor, nn

from sparsevod_core.fast.onednn import PackedLinear, can_pack
from sparsevod_core.fast.support_bank import SupportBank
from sparsevod_core.fast.temporal_roi import FastTemporalRoI
from sparsevod_core.model.interaction import InstanceInteraction
from sparsevod_core.model.proposal_aggregation import AttentionAggregation, MeanAggregation
from sparsevod_core.model.stage import RefinementStage


class KeptAggregation(nn.Module):
    """SPFA with what it asks of the support proposals kept."""

    def __init__(self, aggregation: AttentionAggregation | MeanAggregation) -> None:
        super().__init__()
        self._inner = copy.deepcopy(aggregation)

    def known(self, features: Float[Tensor, "F N C"]) -> tuple[Float[Tensor, "F N C"], ...]:
        """What is kept of support frames' proposals."""
        return self._inner.known(features)

    def forward(
        self, features: Float[Tensor, "B N C"], kept: tuple[Float[Tensor, "S N C"], ...]
    ) -> Float[Tensor, "B N C"]:
        """Features plus what the supports and the target itself give."""
        known = tuple(k.flatten(0, 1).expand(len(features), -1, -1) for k in kept)
        return self._inner.gather(features, known)


class NarrowInteraction(nn.Module):
    """Instance interaction, the widest layers of a stage, in a precision of its own."""

    def __init__(self, interaction: InstanceInteraction, dtype: torch.dtype) -> None:
        super().__init__()
        self._inner = copy.deepcopy(interaction).to(dtype)
        self._dtype = dtype
        on_cpu = interaction.output.weight.device.type == "cpu"
        if on_cpu and dtype == torch.bfloat16 and can_pack(dtype):
            for name in ("dynamic_layers", "output"):
                setattr(self._inner, name, PackedLinear(getattr(self._inner, name)))

    def forward(
        self, features: Float[Tensor, "n C"], roi_features: Float[Tensor, "n C P P"]
    ) -> Float[Tensor, "n C"]:
        """What each proposal finds in its RoI, in the precision of `features`."""
        found = self._inner(features.to(self._dtype), roi_features)
        return found.to(features.dtype)


class FastStage(nn.Module):
    """A stage whose RoI features and instance interaction are in one precision.

    All that is of one vector per proposal stays in fp32: it costs little, and rounding proposal
    features from stage to stage would cost several times the error of everything else.
    """

    def __init__(self, stage: RefinementStage, dtype: torch.dtype) -> None:
        super().__init__()
        temporal_roi = stage.temporal_roi
        self.temporal_roi = None if temporal_roi is None else FastTemporalRoI(temporal_roi, dtype)
        aggregation = stage.aggregation
        self.aggregation = None if aggregation is None else KeptAggregation(aggregation)
        self.inner = copy.deepcopy(stage)
        self.inner.temporal_roi = self.inner.aggregation = None
        self.inner.interaction = NarrowInteraction(stage.interaction, dtype)  # type: ignore[assignment]

    def forward(
        self,
        features: Float[Tensor, "B N C"],
        boxes_xyxy: Float[Tensor, "B N 4"],
        roi_features: Float[Tensor, "B N C P P"],
        bank: SupportBank | None,
        stage: int,
    ) -> tuple[Float[Tensor, "B N K"], Float[Tensor, "B N 4"], Float[Tensor, "B N C"]]:
        """Logits, refined boxes and refined proposal features of the targets."""
        if self.temporal_roi is not None and bank is not None and bank.maps is not None:
            roi_features = self.temporal_roi(roi_features, bank.maps, stage)
        features = self.inner.interact(features, roi_features)
        if self.aggregation is not None:
            if bank is None:
                kept = self.aggregation.known(features[:0])
            else:
                kept = bank.proposals[stage]
            features = self.aggregation(features, kept)
        return self.inner.classify(features), self.inner.refine(boxes_xyxy, features), features
