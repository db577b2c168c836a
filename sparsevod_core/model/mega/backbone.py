"""Backbone of MEGA: a map for the region proposals (C4), and from it the map of the RoIs."""

from __future__ import annotations

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor, nn

from sparsevod_core.model.backbone import ResNetStages, maps_of_stages
from sparsevod_core.model.dilated_backbone import dilate


class C4Backbone(ResNetStages):
    """ResNet in two parts: up to layer3, and layer4 with the stride of layer3 (16 pixels).

    The last stage of Swin or ConvNeXt reads the map of the region proposals too, which a LayerNorm
    has normalized. It begins with a LayerNorm of its own, so that this changes little.

    Args:
        stem, stages, frozen_stages, freeze_norms: see `ResNetStages`. The stages are those of an
            ordinary ResNet, with strides 4, 8, 16, 32; the last one gets dilated.
        stage_channels: number of output channels of each ResNet stage.
        reduction: number of channels to which the map of the RoIs is reduced; 0: it keeps those of
            layer4.

    Attributes:
        channels: number of channels of the map of the region proposals.
        roi_channels: number of channels of the map of the RoIs.
    """

    def __init__(
        self,
        *,
        stem: nn.Module,
        stages: Sequence[nn.Module],
        stage_channels: Sequence[int],
        reduction: int,
        frozen_stages: int,
        freeze_norms: bool,
    ) -> None:
        *first_stages, last_stage = stages
        super().__init__(
            stem=stem,
            stages=[*first_stages, dilate(last_stage, first_block=2)],
            frozen_stages=frozen_stages,
            freeze_norms=freeze_norms,
            read_stages=(2, 3),
        )
        self.channels = stage_channels[-2]
        self.roi_channels = reduction or stage_channels[-1]
        self.reduction: nn.Module = nn.Identity()
        if reduction:
            self.reduction = conv = nn.Conv2d(stage_channels[-1], reduction, 1)
            nn.init.kaiming_uniform_(conv.weight, a=1)
            nn.init.zeros_(conv.bias)  # type: ignore[arg-type]

    def forward(self, images: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B C h w"]:
        """Return the map of the region proposals of normalized images."""
        return self.stage_maps(images, num_stages=3)[-1]

    def roi_map(self, features: Float[Tensor, "B C h w"]) -> Float[Tensor, "B D h w"]:
        """Return the map of the RoIs, given the map of the region proposals."""
        (layer4,) = maps_of_stages(self.stages[-1:], features)
        return self.reduction(layer4).relu()  # of a ResNet without reduction: already ReLU's
