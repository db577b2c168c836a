"""Backbone with a dilated last stage (DC5): images to one map of stride 16."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from sparsevod_core.model.backbone import NormalizedStage, ResNetStages

Stage = TypeVar("Stage", bound=nn.Module)


class DilatedBackbone(ResNetStages):
    """Network whose last stage keeps the stride of the third, followed by a convolution and a ReLU.

    This is the backbone of the Faster R-CNN in MMTracking (https://github.com/open-mmlab/mmtracking)
    on which SELSA, Temporal RoI Align and FGFA build.

    Args:
        stem, stages, frozen_stages, freeze_norms: see `ResNetStages`. The stages are those of an
            ordinary network, with strides 4, 8, 16, 32; the last one gets dilated.
        stage_channels: number of output channels of each stage.
        channels: C, number of channels of the map.
    """

    def __init__(
        self,
        *,
        stem: nn.Module,
        stages: Sequence[nn.Module],
        stage_channels: Sequence[int],
        channels: int,
        frozen_stages: int,
        freeze_norms: bool,
    ) -> None:
        *first_stages, last_stage = stages
        super().__init__(
            stem=stem,
            stages=[*first_stages, dilate(last_stage, first_block=2)],
            frozen_stages=frozen_stages,
            freeze_norms=freeze_norms,
            read_stages=(3,),
        )
        self.neck = nn.Conv2d(stage_channels[-1], channels, 3, padding=1)
        nn.init.xavier_uniform_(self.neck.weight)
        assert self.neck.bias is not None
        nn.init.zeros_(self.neck.bias)

    def forward(self, images: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B C _ _"]:
        """Return the map of normalized images; its values are not negative."""
        return self.neck(self.stage_maps(images)[-1]).relu()


def dilate(stage: Stage, *, first_block: int) -> Stage:
    """Trade the stride of a stage for dilation 2, in place, and return it.

    torchvision's own option, `replace_stride_with_dilation`, takes no `BasicBlock` and leaves the
    first block at dilation 1. All weights and their names stay.

    Args:
        stage: blocks of torchvision (`Bottleneck` or `BasicBlock`) or of EfficientNet-Lite0, one
            block, or a stage of Swin or ConvNeXt.
        first_block: dilation of the first block of a network of convolutions: 1 as in torchvision
            (and DETR), 2 as in MMDetection. A stage of Swin or ConvNeXt is dilated as a whole.
    """
    if isinstance(stage, NormalizedStage):
        stage.layers = Interleaved(*stage.layers)
        return stage
    blocks: list[nn.Module] = list(stage) if isinstance(stage, nn.Sequential) else [stage]
    for block, dilation in zip(blocks, [first_block] + [2] * (len(blocks) - 1), strict=True):
        for layer in block.modules():
            if isinstance(layer, nn.ZeroPad2d):
                layer.padding = (0, 0, 0, 0)  # without stride, the convolution pads all sides alike
            if not isinstance(layer, nn.Conv2d):
                continue
            layer.stride = (1, 1)
            reach = dilation * (layer.kernel_size[0] // 2)
            if reach:
                layer.dilation, layer.padding = (dilation, dilation), (reach, reach)
    return stage


class Interleaved(nn.Sequential):
    """Layers with a stride of 2, applied to each of the four grids of every second position.

    The results are interleaved to a map of the input's size. Where all layers are convolutions, it
    is the map of the layers with their stride traded for dilation 2. It exists for the windows of
    Swin, too, which then hold every second position ("shift and stitch": Sermanet et al., ICLR
    2014; Long et al., CVPR 2015).
    """

    def forward(self, features: Float[Tensor, "B _ H W"]) -> Float[Tensor, "B _ H W"]:
        height, width = features.shape[-2:]
        below, right = height % 2, width % 2  # both sides become even
        padded = F.pad(features, (0, right + 1, 0, below + 1))
        grids = [
            padded[..., y : y + height + below, x : x + width + right]
            for y in (0, 1)
            for x in (0, 1)
        ]
        maps = super().forward(torch.cat(grids))  # [4 B, C, H/2, W/2]
        maps = maps.unflatten(0, (2, 2, -1)).permute(2, 3, 4, 0, 5, 1)  # [B, C, H/2, y, W/2, x]
        return maps.flatten(4).flatten(2, 3)[..., :height, :width]
