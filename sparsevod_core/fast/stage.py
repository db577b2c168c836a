"""One stage of the temporal dynamic head with its support frames in a bank (model/stage.py)."""

from __future__ import annotations

import copy

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from sparsevod_core.fast.onednn import PackedLinear, can_pack
from sparsevod_core.fast.support_bank import SupportBank
from sparsevod_core.fast.temporal_roi import FastTemporalRoI
from sparsevod_core.model.interaction import InstanceInteraction
from sparsevod_core.model.proposal_aggregation import AttentionAggregation, MeanAggregation
from sparsevod_core.model.stage import RefinementStage


class FastAttentionAggregation(nn.Module):
    """SPFA with the keys and values of the support proposals kept."""

    def __init__(self, aggregation: AttentionAggregation) -> None:
        super().__init__()
        self._inner = copy.deepcopy(aggregation)

    def known(self, features: Float[Tensor, "F N C"]) -> tuple[Float[Tensor, "F N C"], ...]:
        """What is kept of support frames: their proposals' keys and values."""
        return self._inner.key(features), self._inner.value(features)

    def forward(
        self, features: Float[Tensor, "B N C"], known: tuple[Float[Tensor, "S N C"], ...]
    ) -> Float[Tensor, "B N C"]:
        """Features plus what attention gathers from the supports and from the target itself."""
        key, value = (
            torch.cat([kept.flatten(0, 1).expand(len(features), -1, -1), own], dim=1)
            for kept, own in zip(known, self.known(features), strict=True)
        )
        query, key, value = map(self._heads, (self._inner.query(features), key, value))
        gathered = F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)
        return features + self._inner.output(gathered)

    def _heads(self, x: Float[Tensor, "B n C"]) -> Float[Tensor, "B heads n d"]:
        return x.unflatten(-1, (self._inner.num_heads, -1)).transpose(1, 2)


class FastMeanAggregation(nn.Module):
    """The mean in its place, with the values of the support proposals kept."""

    def __init__(self, aggregation: MeanAggregation) -> None:
        super().__init__()
        self._inner = copy.deepcopy(aggregation)

    def known(self, features: Float[Tensor, "F N C"]) -> tuple[Float[Tensor, "F N C"], ...]:
        """What is kept of support frames: their proposals' values."""
        return (self._inner.value(features),)

    def forward(
        self, features: Float[Tensor, "B N C"], known: tuple[Float[Tensor, "S N C"], ...]
    ) -> Float[Tensor, "B N C"]:
        """Features plus the mean."""
        (own,), (kept,) = self.known(features), known
        value = torch.cat([kept.flatten(0, 1).expand(len(features), -1, -1), own], dim=1)
        return features + self._inner.output(value.mean(1, keepdim=True))


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
        temporal_roi, aggregation = stage.temporal_roi, stage.aggregation
        self.temporal_roi = None if temporal_roi is None else FastTemporalRoI(temporal_roi, dtype)
        self.aggregation: FastAttentionAggregation | FastMeanAggregation | None = None
        if isinstance(aggregation, AttentionAggregation):
            self.aggregation = FastAttentionAggregation(aggregation)
        elif aggregation is not None:
            self.aggregation = FastMeanAggregation(aggregation)
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
                known = tuple(own[:0] for own in self.aggregation.known(features))
            else:
                known = bank.proposals[stage]
            features = self.aggregation(features, known)
        return self.inner.classify(features), self.inner.refine(boxes_xyxy, features), features
