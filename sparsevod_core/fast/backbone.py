"""ResNet with its norms folded into its convolutions, channels last, in one precision."""

from __future__ import annotations

import copy
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from sparsevod_core.fast.onednn import can_pack, fuse_blocks
from sparsevod_core.model.backbone import Backbone


class FoldedStages(nn.Module):
    """Normalised images to the maps that an FPN starts from, C2..C5.

    A BatchNorm that uses its stored statistics is a scale and a shift of each channel: the
    convolution before it takes both over, and a pass over every map is spared.
    """

    def __init__(self, backbone: Backbone, dtype: torch.dtype) -> None:
        super().__init__()
        parts = copy.deepcopy(nn.ModuleList([backbone.stem, *backbone.stages])).eval()
        _fold(parts)
        self.stem, *stages = parts.to(dtype).to(memory_format=torch.channels_last)
        on_cpu = next(backbone.parameters()).device.type == "cpu"
        if on_cpu and not _has_norms(parts) and can_pack(dtype):
            stages = [fuse_blocks(stage) for stage in stages]
        self.stages = nn.ModuleList(stages)

    def forward(self, images: Float[Tensor, "B 3 H W"]) -> list[Float[Tensor, "B _ _ _"]]:
        """C2..C5, channels last."""
        features = self.stem(images)
        maps = []
        for stage in self.stages:
            features = stage(features)
            maps.append(features)
        return maps


def _fold(module: nn.Module) -> None:
    """Fold every BatchNorm into the convolution that is registered just before it."""
    for (name, part), (next_name, following) in pairwise(list(module.named_children())):
        if isinstance(part, nn.Conv2d) and isinstance(following, nn.BatchNorm2d):
            setattr(module, name, fuse_conv_bn_eval(part, following))
            setattr(module, next_name, nn.Identity())
    for part in module.children():
        _fold(part)


def _has_norms(module: nn.Module) -> bool:
    return any(isinstance(part, nn.BatchNorm2d | nn.GroupNorm) for part in module.modules())
