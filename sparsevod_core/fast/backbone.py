"""Backbones with BatchNorms folded into convolutions, channels-last, in one precision."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from sparsevod_core.fast.fused import BiasActConv2d, Fuse, conv_relu, fuse_blocks
from sparsevod_core.fast.inverted_residual import pack_inverted_residuals
from sparsevod_core.fast.onednn import PackedConv2d
from sparsevod_core.model.backbone import Backbone, ResNetStages, maps_of_stages
from sparsevod_core.model.dilated_backbone import DilatedBackbone
from sparsevod_core.model.efficientnet_lite import InvertedResidual
from sparsevod_core.model.mega.backbone import C4Backbone


class FoldedStages(nn.Module):
    """Stem and stages of a backbone with BatchNorms folded, channels-last, in one precision.

    A BatchNorm with stored statistics scales and shifts each channel. Folding both into the
    convolution before it saves a pass over every map.

    Depthwise convolutions, and what is between them, stay in fp32: a channel of theirs sums few
    products, so that errors of bf16 hardly cancel. In bf16, they changed scores of the bundled
    model by up to 0.08 instead of 0.02, and saved 6 of 106 ms per frame on one core.

    Args:
        dtype: type of the maps.
        fuse: fuses a convolution with what follows it; None: no layer is fused.
        num_stages: number of stages to take; None: all four.
    """

    def __init__(
        self,
        backbone: ResNetStages,
        dtype: torch.dtype,
        *,
        fuse: Fuse | None,
        num_stages: int | None = None,
    ) -> None:
        super().__init__()
        parts = nn.ModuleList([backbone.stem, *backbone.stages[:num_stages]])
        parts = copy.deepcopy(parts).eval()
        _fold(parts)
        is_depthwise = any(isinstance(part, InvertedResidual) for part in parts.modules())
        self._compute_dtype = torch.float32 if is_depthwise else dtype
        self.dtype = dtype
        parts = parts.to(self._compute_dtype).to(memory_format=torch.channels_last)
        self.stem, *stages = parts
        if fuse is not None and not _has_norms(parts):
            stages = [fuse_blocks(stage, fuse) for stage in stages]
            if fuse is PackedConv2d:
                for part in (self.stem, *stages):
                    pack_inverted_residuals(part)
        self.stages = nn.ModuleList(stages)

    def stage_maps(
        self, images: Float[Tensor, "B 3 H W"], num_stages: int | None = None
    ) -> list[Float[Tensor, "B _ _ _"]]:
        """Return channels-last maps of the first stages, or of all four, of normalized images."""
        maps = maps_of_stages(self.stages[:num_stages], self._stem_map(images))
        return [features.to(self.dtype) for features in maps]

    def stage_outputs(
        self, images: Float[Tensor, "B 3 H W"], num_stages: int
    ) -> list[Float[Tensor, "B _ _ _"]]:
        """Return what each of the first stages passes on to the next, of normalized images."""
        features, outputs = self._stem_map(images), []
        for stage in self.stages[:num_stages]:
            features = stage(features)
            outputs.append(features.to(self.dtype))
        return outputs

    def _stem_map(self, images: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B C h w"]:
        return self.stem(images.to(dtype=self._compute_dtype, memory_format=torch.channels_last))


class FoldedBackbone(FoldedStages):
    """Normalized images to P2..P5, or to C2..C5 if the FPN `layers` are run later.

    Args:
        fuse: see `FoldedStages`.
        top_down: if True, run the FPN too.
    """

    def __init__(
        self, backbone: Backbone, dtype: torch.dtype, *, fuse: Fuse | None, top_down: bool
    ) -> None:
        super().__init__(backbone, dtype, fuse=fuse)
        self.layers = PyramidLayers(backbone, dtype, fuse if top_down else None)
        self._top_down = top_down

    def forward(self, images: Float[Tensor, "B 3 H W"]) -> list[Float[Tensor, "B _ _ _"]]:
        """Return four channels-last maps of strides 4 to 32."""
        maps = self.stage_maps(images)
        return self.layers(maps) if self._top_down else maps


class FoldedDilatedBackbone(FoldedStages):
    """`DilatedBackbone`, see `FoldedStages`."""

    def __init__(self, backbone: DilatedBackbone, dtype: torch.dtype, *, fuse: Fuse | None) -> None:
        super().__init__(backbone, dtype, fuse=fuse)
        self.neck = conv_relu(backbone.neck, dtype, fuse)

    def forward(self, images: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B C _ _"]:
        """Return the channels-last map of normalized images."""
        return self.neck(self.stage_maps(images)[-1])


class FoldedC4Backbone(FoldedStages):
    """`C4Backbone`, see `FoldedStages`."""

    def __init__(self, backbone: C4Backbone, dtype: torch.dtype, *, fuse: Fuse | None) -> None:
        super().__init__(backbone, dtype, fuse=fuse)
        self.reduction: nn.Module = nn.ReLU()
        if isinstance(backbone.reduction, nn.Conv2d):
            self.reduction = conv_relu(backbone.reduction, dtype, fuse)

    def forward(self, images: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B C h w"]:
        """Return the channels-last map of the region proposals of normalized images."""
        return self.stage_maps(images, num_stages=3)[-1]

    def roi_map(self, features: Float[Tensor, "B C h w"]) -> Float[Tensor, "B D h w"]:
        """Return the channels-last map of the RoIs, given the map of the region proposals."""
        (layer4,) = maps_of_stages(self.stages[3:], features.to(self._compute_dtype))
        return self.reduction(layer4.to(self.dtype))


class PyramidLayers(nn.Module):
    """Convolutions of the FPN by level, from P2 on, channels-last, in one precision."""

    lateral: Sequence[nn.Conv2d]
    output: Sequence[nn.Conv2d]
    norms: Sequence[nn.Module]

    def __init__(self, backbone: Backbone, dtype: torch.dtype, fuse: Fuse | None = None) -> None:
        super().__init__()
        layers = nn.ModuleList(
            [
                nn.ModuleList(block[0] for block in backbone.fpn.inner_blocks),
                nn.ModuleList(block[0] for block in backbone.fpn.layer_blocks),
                backbone.map_norms,
            ]
        )
        layers = copy.deepcopy(layers).to(dtype).to(memory_format=torch.channels_last)
        self.lateral, self.output, self.norms = layers  # type: ignore[assignment]
        self._upsamples = fuse is BiasActConv2d
        if self._upsamples:
            for convolutions in (self.lateral, self.output):
                for number, conv in enumerate(convolutions):
                    convolutions[number] = BiasActConv2d(conv, False)  # type: ignore[index]

    def forward(self, maps: Sequence[Float[Tensor, "B _ _ _"]]) -> list[Float[Tensor, "B C _ _"]]:
        """Return P2..P5 of C2..C5."""
        levels: list[Tensor] = []
        inner = None
        for number in reversed(range(len(maps))):
            inner = self.inner(number, maps[number], inner)
            levels.insert(0, self.norms[number](self.output[number](inner)))
        return levels

    def inner(
        self,
        number: int,
        bottom_up: Float[Tensor, "B _ _ _"],
        above: Float[Tensor, "B C _ _"] | None,
    ) -> Float[Tensor, "B C _ _"]:
        """Return a level before its last convolution, from its ResNet map and the coarser level."""
        if above is None:
            return self.lateral[number](bottom_up)
        if self._upsamples:
            return self.lateral[number](bottom_up, add_to=above)
        upsampled = F.interpolate(above, size=bottom_up.shape[-2:], mode="nearest")
        return self.lateral[number](bottom_up) + upsampled


def _fold(module: nn.Module) -> None:
    """Fold every BatchNorm into the convolution registered immediately before it."""
    for (name, part), (next_name, following) in pairwise(list(module.named_children())):
        if isinstance(part, nn.Conv2d) and isinstance(following, nn.BatchNorm2d):
            setattr(module, name, fuse_conv_bn_eval(part, following))
            setattr(module, next_name, nn.Identity())
    for part in module.children():
        _fold(part)


def _has_norms(module: nn.Module) -> bool:
    return any(isinstance(part, nn.BatchNorm2d | nn.GroupNorm) for part in module.modules())
