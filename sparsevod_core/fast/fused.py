"""Convolutions fused with the bias, residual and ReLU that follow them.

There are two implementations: `onednn.PackedConv2d` for CPUs, and `BiasActConv2d` for GPUs, which
runs one Triton kernel after the convolution.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Protocol

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torchvision.models.resnet import Bottleneck


class FusedConv(Protocol):
    """Convolution, then optionally the sum with another map, then optionally ReLU."""

    def __call__(
        self, maps: Float[Tensor, "B _ _ _"], add_to: Float[Tensor, "B _ _ _"] | None = None
    ) -> Float[Tensor, "B _ _ _"]:
        """Return the result, which may overwrite `add_to`."""


Fuse = Callable[[nn.Conv2d, bool], nn.Module]
"""Makes a `FusedConv` of a convolution; the flag says whether a ReLU follows."""


class BiasActConv2d(nn.Module):
    """`FusedConv` as PyTorch's convolution without bias, then one Triton kernel.

    A map to add may have half the height and width; it is upsampled by nearest neighbor.
    """

    def __init__(self, conv: nn.Conv2d, relu: bool) -> None:
        super().__init__()
        from sparsevod_core.kernels.triton_bias_act import bias_act

        self._conv = conv
        self._relu = relu
        self._finish = bias_act

    def forward(
        self, maps: Float[Tensor, "B _ _ _"], add_to: Float[Tensor, "B _ _ _"] | None = None
    ) -> Float[Tensor, "B _ _ _"]:
        conv = self._conv
        assert conv.bias is not None
        maps = F.conv2d(
            maps, conv.weight, None, conv.stride, conv.padding, conv.dilation, conv.groups
        )
        return self._finish(maps, conv.bias, add_to, self._relu)


class FusedBottleneck(nn.Module):
    """Bottleneck block (ResNet-50 and deeper) whose BatchNorms have been folded.

    Args:
        is_input_free: if True, the block may overwrite its input.
    """

    def __init__(self, block: Bottleneck, fuse: Fuse, *, is_input_free: bool) -> None:
        super().__init__()
        self._reduce = fuse(block.conv1, True)
        self._spatial = fuse(block.conv2, True)
        self._expand = fuse(block.conv3, True)
        self._shortcut = None
        if block.downsample is not None:
            self._shortcut = fuse(block.downsample[0], False)
        self._is_input_free = is_input_free

    def forward(self, maps: Float[Tensor, "B _ _ _"]) -> Float[Tensor, "B _ _ _"]:
        """Return relu(residual branch + shortcut)."""
        residual = self._spatial(self._reduce(maps))
        if self._shortcut is not None:
            shortcut = self._shortcut(maps)
        else:
            shortcut = maps if self._is_input_free else maps.clone()
        return self._expand(residual, add_to=shortcut)


def conv_relu(conv: nn.Conv2d, dtype: torch.dtype, fuse: Fuse | None) -> nn.Module:
    """Return a copy of a convolution, channels-last and in one precision, followed by ReLU."""
    conv = copy.deepcopy(conv).to(dtype).to(memory_format=torch.channels_last)
    return nn.Sequential(conv, nn.ReLU()) if fuse is None else fuse(conv, True)


def fuse_blocks(stage: nn.Module, fuse: Fuse) -> nn.Module:
    """Fuse the blocks of a ResNet stage if all are bottlenecks, else return the stage unchanged.

    Only the input of the first block is used elsewhere: it is the map of the previous stage.
    """
    blocks = list(stage.children())
    if not all(isinstance(block, Bottleneck) for block in blocks):
        return stage
    return nn.Sequential(
        *(
            FusedBottleneck(block, fuse, is_input_free=number > 0)
            for number, block in enumerate(blocks)
        )
    )
