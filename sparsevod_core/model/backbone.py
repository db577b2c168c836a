"""Backbones (ResNet, ResNeXt, Swin, ConvNeXt) with a feature pyramid network: images to P2..P5."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from typing import Self

from jaxtyping import Float
from torch import Tensor, nn
from torchvision.models import resnet
from torchvision.models.convnext import ConvNeXt, LayerNorm2d
from torchvision.models.swin_transformer import SwinTransformer
from torchvision.ops import FeaturePyramidNetwork, Permute

STRIDES = (4, 8, 16, 32)
LEVELS = ("p2", "p3", "p4", "p5")


class ResNetStages(nn.Module):
    """ResNet, or another network of a stem and four stages, without its classifier.

    BatchNorm layers use their stored statistics in training too: with one clip per step, batch
    statistics are useless.

    Args:
        stem: image to the input of the first stage, stride 4.
        stages: layer1..layer4 of a ResNet, or the four stages of another network.
        frozen_stages: number of stages that are not trained, counted from the stem.
        freeze_norms: if True, no BatchNorm weight is trained (as in the original Sparse R-CNN).
        read_stages: numbers of the stages, from 0, whose maps the detector reads. Other stages need
            no LayerNorm after them, see `NormalizedStage`.

    Attributes:
        run_frozen: a faster way to compute, in training, what a number of frozen stages pass on to
            the next stage, or None.
    """

    def __init__(
        self,
        *,
        stem: nn.Module,
        stages: Sequence[nn.Module],
        frozen_stages: int,
        freeze_norms: bool,
        read_stages: Sequence[int],
    ) -> None:
        super().__init__()
        self.run_frozen: Callable[[Tensor, int], list[Tensor]] | None = None
        self.stem = stem
        self.stages = nn.ModuleList(stages)
        for number, stage in enumerate(stages):
            if isinstance(stage, NormalizedStage) and number not in read_stages:
                stage.norm = nn.Identity()
        self._frozen = [self.stem, *self.stages][:frozen_stages]
        for part in self._frozen:
            part.requires_grad_(False)
        if freeze_norms:
            for norm in self._batch_norms():
                norm.requires_grad_(False)

    def stage_maps(
        self, images: Float[Tensor, "B 3 H W"], num_stages: int | None = None
    ) -> list[Float[Tensor, "B _ _ _"]]:
        """Return C2..C5, the maps of the first stages, or of all four, of normalized images."""
        stages = self.stages[:num_stages]
        if self.run_frozen is None or not self.training:
            return maps_of_stages(stages, self.stem(images))
        num_frozen = min(self.num_frozen, len(stages))
        frozen = self.run_frozen(images, num_frozen)
        maps = [map_of(stage, output) for stage, output in zip(stages, frozen, strict=False)]
        return maps + maps_of_stages(stages[num_frozen:], frozen[-1])

    @property
    def num_frozen(self) -> int:
        """Number of stages that are not trained, without the stem."""
        return max(0, len(self._frozen) - 1)

    def train(self, mode: bool = True) -> Self:
        super().train(mode)
        for part in [*self._batch_norms(), *self._frozen]:  # frozen: no stochastic depth
            part.eval()
        return self

    def _batch_norms(self) -> list[nn.BatchNorm2d]:
        return [module for module in self.modules() if isinstance(module, nn.BatchNorm2d)]


class NormalizedStage(nn.Module):
    """Stage of Swin or ConvNeXt.

    A detector reads its output through a LayerNorm, as in the detectors of both papers. The next
    stage reads it without. The LayerNorm is not part of ImageNet's weights.
    """

    def __init__(self, layers: Sequence[nn.Module], channels: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(*layers)
        self.norm: nn.Module = LayerNorm2d(channels)

    def forward(self, features: Float[Tensor, "B _ _ _"]) -> Float[Tensor, "B _ _ _"]:
        """Return the input of the next stage."""
        return self.layers(features)


def maps_of_stages(
    stages: Iterable[nn.Module], features: Float[Tensor, "B _ _ _"]
) -> list[Float[Tensor, "B _ _ _"]]:
    """Run stages one after the other, and return the map of each as a detector reads it."""
    maps = []
    for stage in stages:
        features = stage(features)
        maps.append(map_of(stage, features))
    return maps


def map_of(stage: nn.Module, output: Float[Tensor, "B _ _ _"]) -> Float[Tensor, "B _ _ _"]:
    """Return the map of a stage as a detector reads it, from what it passes on."""
    return stage.norm(output) if isinstance(stage, NormalizedStage) else output


class Backbone(ResNetStages):
    """ResNet, Swin or ConvNeXt followed by an FPN (Lin et al., CVPR 2017).

    The FPN upsamples by nearest neighbor; its convolutions have a bias and no norm.

    Args:
        stem, stages, frozen_stages, freeze_norms: see `ResNetStages`; strides 4, 8, 16, 32.
        stage_channels: number of output channels of each stage.
        channels: C, number of channels of each pyramid level.
        normalize_maps: if True, apply a LayerNorm over the channels of each position of P2..P5, as
            ViTDet does (Li et al., ECCV 2022). The head is invariant to the scale of the maps, so
            that nothing keeps the scale bounded in training from scratch; TFE's softmax needs it.
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
        normalize_maps: bool,
    ) -> None:
        super().__init__(
            stem=stem,
            stages=stages,
            frozen_stages=frozen_stages,
            freeze_norms=freeze_norms,
            read_stages=range(4),
        )
        self.fpn = FeaturePyramidNetwork(list(stage_channels), channels)
        self.map_norms = nn.ModuleList(
            LayerNorm2d(channels) if normalize_maps else nn.Identity() for _ in LEVELS
        )

    def forward(self, images: Float[Tensor, "B 3 H W"]) -> list[Float[Tensor, "B C _ _"]]:
        """Return P2..P5 of normalized images."""
        maps = OrderedDict(zip(LEVELS, self.stage_maps(images), strict=True))
        pyramid = self.fpn(maps).values()
        return [norm(level) for norm, level in zip(self.map_norms, pyramid, strict=True)]


def group_norm(channels: int) -> nn.GroupNorm:
    """Return a GroupNorm (Wu and He, ECCV 2018) of at most 32 groups, to train from scratch."""
    return nn.GroupNorm(math.gcd(32, channels), channels)


def resnet_parts(network: resnet.ResNet) -> tuple[nn.Module, list[nn.Module], list[int]]:
    """Return stem, ResNet stages and stage channels of a torchvision ResNet."""
    stem = nn.Sequential(
        OrderedDict(
            conv1=network.conv1, bn1=network.bn1, relu=network.relu, maxpool=network.maxpool
        )
    )
    stages = [network.layer1, network.layer2, network.layer3, network.layer4]
    return stem, stages, [256, 512, 1024, 2048]


def layer_norm_parts(
    network: SwinTransformer | ConvNeXt,
) -> tuple[nn.Module, list[nn.Module], list[int]]:
    """Return stem, stages and stage channels of a Swin Transformer or ConvNeXt of torchvision.

    Sources: Liu et al., ICCV 2021; Liu et al., CVPR 2022. Each stage has twice the channels of the
    one before. Swin's layers are channels-last, so that each part ends with a permutation.
    """
    stem, *layers = network.features
    to_last: nn.Module = nn.Identity()
    to_first: nn.Module = nn.Identity()
    if isinstance(network, SwinTransformer):
        to_last, to_first = Permute([0, 2, 3, 1]), Permute([0, 3, 1, 2])
    widths = [stem[0].out_channels * 2**number for number in range(4)]
    halvings = [nn.Identity(), *layers[1::2]]
    stages: list[nn.Module] = [
        NormalizedStage([to_last, halving, *blocks, to_first], width)
        for halving, blocks, width in zip(halvings, layers[::2], widths, strict=True)
    ]
    return nn.Sequential(*stem, to_first), stages, widths


def tiny_parts(
    norm: Callable[[int], nn.Module], widths: Sequence[int] = (32, 64, 128, 192)
) -> tuple[nn.Module, list[nn.Module], list[int]]:
    """Return stem, stages and stage channels of a ResNet-10 (one basic block per stage)."""
    stem = nn.Sequential(
        OrderedDict(
            conv1=nn.Conv2d(3, widths[0], 7, stride=2, padding=3, bias=False),
            bn1=norm(widths[0]),
            relu=nn.ReLU(inplace=True),
            maxpool=nn.MaxPool2d(3, stride=2, padding=1),
        )
    )
    stages: list[nn.Module] = []
    before = widths[0]
    for width in widths:
        stride = 2 if stages else 1
        shortcut = None
        if stride != 1:
            shortcut = nn.Sequential(nn.Conv2d(before, width, 1, stride, bias=False), norm(width))
        stages.append(resnet.BasicBlock(before, width, stride, shortcut, norm_layer=norm))
        before = width
    for module in nn.ModuleList([stem, *stages]).modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    return stem, stages, list(widths)
