"""Frozen stages of a backbone in training, computed as at inference."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from sparsevod_core.fast.backbone import FoldedStages
from sparsevod_core.fast.fused import Fuse
from sparsevod_core.model.backbone import ResNetStages


class FoldedFrozenStages:
    """Maps of the frozen stages, with BatchNorms folded and layers fused.

    Nothing of them is trained, so that only rounding tells the difference. They are folded at the
    first call: until then, a checkpoint or another process can still replace the weights.

    Args:
        backbone: its stages are not changed.
        fuse: see `FoldedStages`.
    """

    def __init__(self, backbone: ResNetStages, fuse: Fuse | None) -> None:
        self._backbone = backbone
        self._fuse = fuse
        self._folded: FoldedStages | None = None

    @torch.no_grad()
    def __call__(self, images: Float[Tensor, "B 3 H W"]) -> list[Float[Tensor, "B _ _ _"]]:
        """Return the fp32 maps of the frozen stages of normalized images."""
        if self._folded is None:
            self._folded = FoldedStages(self._backbone, torch.float32, fuse=self._fuse)
        return self._folded.stage_maps(images, self._backbone.num_frozen)
