"""Frozen stages of a backbone in training, computed as at inference."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from sparsevod_core.fast.backbone import FoldedStages
from sparsevod_core.fast.fused import Fuse
from sparsevod_core.model.backbone import ResNetStages


class FoldedFrozenStages:
    """Outputs of the frozen stages, with BatchNorms folded and layers fused.

    Nothing of them is trained, so that only rounding tells the difference. They are folded at the
    first call, and again if their weights were replaced or moved.

    Args:
        backbone: its stages are not changed.
        dtype: type of the outputs.
        fuse: see `FoldedStages`.
    """

    def __init__(self, backbone: ResNetStages, dtype: torch.dtype, fuse: Fuse | None) -> None:
        self._backbone = backbone
        self._dtype = dtype
        self._fuse = fuse
        self._folded: FoldedStages | None = None
        self._folded_from: list[tuple[object, ...]] = []

    @torch.no_grad()
    def __call__(
        self, images: Float[Tensor, "B 3 H W"], num_stages: int
    ) -> list[Float[Tensor, "B _ _ _"]]:
        """Return what the first `num_stages` stages pass on, from normalized images."""
        backbone, num_frozen = self._backbone, self._backbone.num_frozen
        weights = _state([backbone.stem, *backbone.stages[:num_frozen]])
        # Packed layers do not obey autocast, which would give them inputs of another type.
        with torch.autocast(images.device.type, enabled=False):
            if self._folded is None or weights != self._folded_from:
                self._folded = FoldedStages(
                    backbone, self._dtype, fuse=self._fuse, num_stages=num_frozen
                )
                self._folded_from = weights
            return self._folded.stage_outputs(images, num_stages)

    def __getstate__(self) -> dict[str, Any]:
        """Leave out the packed weights, which cannot be copied; a copy folds its own."""
        return {**self.__dict__, "_folded": None}


def _state(parts: list[nn.Module]) -> list[tuple[object, ...]]:
    """Return what changes if a weight is written or moved, without reading the weights."""
    modules = nn.ModuleList(parts)
    tensors = [*modules.parameters(), *modules.buffers()]
    return [(one.data_ptr(), one._version, one.dtype) for one in tensors]
