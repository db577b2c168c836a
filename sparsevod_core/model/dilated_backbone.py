"""ResNet / ResNeXt backbone with a dilated last stage (DC5): images to one map of stride 16."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from jaxtyping import Float
from torch import Tensor, nn

from sparsevod_core.model.backbone import ResNetStages

Stage = TypeVar("Stage", bound=nn.Module)


class DilatedBackbone(ResNetStages):
    """ResNet whose layer4 keeps the stride of layer3, followed by a convolution and a ReLU.

    This is the backbone of the Faster R-CNN in MMTracking (https://github.com/open-mmlab/mmtracking)
    on which SELSA, Temporal RoI Align and FGFA build.

    Args:
        stem, stages, frozen_stages, freeze_norms: see `ResNetStages`. The stages are those of an
            ordinary ResNet, with strides 4, 8, 16, 32; the last one gets dilated.
        stage_channels: number of output channels of each ResNet stage.
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
        )
        self.neck = nn.Conv2d(stage_channels[-1], channels, 3, padding=1)
        nn.init.xavier_uniform_(self.neck.weight)
        assert self.neck.bias is not None
        nn.init.zeros_(self.neck.bias)

    def forward(self, images: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B C _ _"]:
        """Return the map of normalized images; its values are not negative."""
        return self.neck(self.stage_maps(images)[-1]).relu()


def dilate(stage: Stage, *, first_block: int) -> Stage:
    """Trade the stride of a ResNet stage for dilation 2, in place, and return it.

    torchvision's own option, `replace_stride_with_dilation`, takes no `BasicBlock` and leaves the
    first block at dilation 1. All weights stay.

    Args:
        stage: blocks of torchvision (`Bottleneck` or `BasicBlock`), or one block.
        first_block: dilation of the first block: 1 as in torchvision (and DETR), 2 as in
            MMDetection.
    """
    blocks: list[nn.Module] = list(stage) if isinstance(stage, nn.Sequential) else [stage]
    for block, dilation in zip(blocks, [first_block] + [2] * (len(blocks) - 1), strict=True):
        for layer in block.modules():
            if not isinstance(layer, nn.Conv2d):
                continue
            layer.stride = (1, 1)
            if layer.kernel_size == (3, 3):
                layer.dilation = layer.padding = (dilation, dilation)
    return stage
