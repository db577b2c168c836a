"""Instance interaction in the precision of the maps."""

from __future__ import annotations

import copy

import torch
from jaxtyping import Float
from torch import Tensor, nn

from sparsevod_core.fast.onednn import PackedLinear
from sparsevod_core.model.interaction import InstanceInteraction


class NarrowInteraction(nn.Module):
    """The widest layers of a stage in a precision of their own.

    All else that is of one vector per proposal stays in fp32: it costs little, and rounding
    proposal features from stage to stage would cost several times the error of everything else.

    Args:
        packed: weights in oneDNN's order.
    """

    def __init__(
        self, interaction: InstanceInteraction, dtype: torch.dtype, *, packed: bool
    ) -> None:
        super().__init__()
        self._inner = copy.deepcopy(interaction).to(dtype)
        self._dtype = dtype
        if packed:
            for name in ("dynamic_layers", "output"):
                setattr(self._inner, name, PackedLinear(getattr(self._inner, name)))

    def forward(
        self, features: Float[Tensor, "n C"], roi_features: Float[Tensor, "n C P P"]
    ) -> Float[Tensor, "n C"]:
        """What each proposal finds in its RoI, in the precision of `features`."""
        found = self._inner(features.to(self._dtype), roi_features)
        return found.to(features.dtype)
