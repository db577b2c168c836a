"""EfficientNet-Lite0, a small network for CPUs with weights of ImageNet.

Source: https://github.com/tensorflow/tpu/tree/master/models/official/efficientnet/lite. It is
EfficientNet-B0 (Tan and Le, ICML 2019) without squeeze-and-excitation, and with ReLU6 for swish.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

BatchNorm = partial(nn.BatchNorm2d, eps=1e-3)
STEM_CHANNELS = 32
HEAD_CHANNELS = 1280


class BlockGroup(NamedTuple):
    """Consecutive blocks of one size; `stride` is that of the first block."""

    kernel: int
    stride: int
    expansion: int
    channels: int
    blocks: int


BLOCK_GROUPS = (
    BlockGroup(3, 1, 1, 16, 1),
    BlockGroup(3, 2, 6, 24, 2),
    BlockGroup(5, 2, 6, 40, 2),
    BlockGroup(3, 2, 6, 80, 3),
    BlockGroup(5, 1, 6, 112, 3),
    BlockGroup(5, 2, 6, 192, 4),
    BlockGroup(3, 1, 6, 320, 1),
)
STAGE_GROUPS = ((1, 2), (2, 3), (3, 5), (5, 7))  # groups of each stage; the first is in the stem


class InvertedResidual(nn.Module):
    """Expansion, depthwise convolution and projection (Sandler et al., CVPR 2018).

    Args:
        before: number of input channels.
        group: sizes of the block.
        stride: stride of the depthwise convolution, 1 or 2.
        norm: makes a norm of a number of channels.

    Attributes:
        expand_conv, bn0: expansion; identities if the block does not expand.
        pad, depthwise_conv, bn1: depthwise convolution.
        project_conv, bn2: projection.
        has_shortcut: whether the input is added.
    """

    def __init__(
        self, before: int, group: BlockGroup, stride: int, norm: Callable[[int], nn.Module]
    ) -> None:
        super().__init__()
        width = before * group.expansion
        self.expand_conv: nn.Module = nn.Identity()
        self.bn0: nn.Module = nn.Identity()
        self._expands = group.expansion > 1
        if self._expands:
            self.expand_conv = nn.Conv2d(before, width, 1, bias=False)
            self.bn0 = norm(width)
        self.pad, self.depthwise_conv = _same_conv(width, width, group.kernel, stride, groups=width)
        self.bn1 = norm(width)
        self.project_conv = nn.Conv2d(width, group.channels, 1, bias=False)
        self.bn2 = norm(group.channels)
        self.has_shortcut = stride == 1 and before == group.channels

    def forward(self, features: Float[Tensor, "B _ H W"]) -> Float[Tensor, "B C _ _"]:
        """Return the map of the block; its values may be negative."""
        inner = features
        if self._expands:
            inner = F.relu6(self.bn0(self.expand_conv(inner)))
        inner = F.relu6(self.bn1(self.depthwise_conv(self.pad(inner))))
        projected = self.bn2(self.project_conv(inner))
        return projected + features if self.has_shortcut else projected


class EfficientNetLite0(nn.Module):
    """The classifier; `efficientnet_lite_parts` returns what a detector uses of it.

    Args:
        norm: makes a norm of a number of channels; the published weights belong to `BatchNorm`.
        num_classes: number of classes.

    Attributes:
        conv_stem, pad_stem, bn0: first convolution, stride 2.
        blocks: the 16 inverted residual blocks.
        conv_head, bn1, fc: classifier of the 1,000 classes of ImageNet.
    """

    def __init__(
        self, norm: Callable[[int], nn.Module] = BatchNorm, num_classes: int = 1000
    ) -> None:
        super().__init__()
        self.pad_stem, self.conv_stem = _same_conv(3, STEM_CHANNELS, 3, 2)
        self.bn0 = norm(STEM_CHANNELS)
        self.blocks = nn.ModuleList()
        before = STEM_CHANNELS
        for group in BLOCK_GROUPS:
            for number in range(group.blocks):
                stride = 1 if number else group.stride
                self.blocks.append(InvertedResidual(before, group, stride, norm))
                before = group.channels
        self.conv_head = nn.Conv2d(before, HEAD_CHANNELS, 1, bias=False)
        self.bn1 = norm(HEAD_CHANNELS)
        self.fc = nn.Linear(HEAD_CHANNELS, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out")

    def forward(self, images: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B classes"]:
        """Return the logits of images that are normalized as for torchvision's networks."""
        features = F.relu6(self.bn0(self.conv_stem(self.pad_stem(images))))
        for block in self.blocks:
            features = block(features)
        features = F.relu6(self.bn1(self.conv_head(features)))
        return self.fc(features.mean(dim=(2, 3)))


def efficientnet_lite_parts(
    network: EfficientNetLite0,
) -> tuple[nn.Module, list[nn.Module], list[int]]:
    """Return stem, stages and stage channels of the network; the stages have strides 4 to 32.

    The stem is the first convolution and the first block, of stride 2.
    """
    starts = [0]
    for group in BLOCK_GROUPS:
        starts.append(starts[-1] + group.blocks)
    stem = nn.Sequential(
        OrderedDict(
            pad=network.pad_stem,
            conv=network.conv_stem,
            bn=network.bn0,
            relu=nn.ReLU6(inplace=True),
            block=network.blocks[0],
        )
    )
    stages: list[nn.Module] = [
        nn.Sequential(*network.blocks[starts[first] : starts[end]]) for first, end in STAGE_GROUPS
    ]
    return stem, stages, [BLOCK_GROUPS[end - 1].channels for _, end in STAGE_GROUPS]


def _same_conv(
    before: int, channels: int, kernel: int, stride: int, groups: int = 1
) -> tuple[nn.Module, nn.Conv2d]:
    """Return the padding and the convolution that TensorFlow calls `SAME`.

    With stride 2 on a side of even length, it pads one position more at the end than at the start.
    """
    pad: nn.Module = nn.Identity()
    padding = kernel // 2
    if stride == 2:
        start, end = (kernel - 2) // 2, (kernel - 1) // 2
        pad, padding = nn.ZeroPad2d((start, end, start, end)), 0
    conv = nn.Conv2d(before, channels, kernel, stride, padding, groups=groups, bias=False)
    return pad, conv
