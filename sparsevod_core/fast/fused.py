"""Convolutions with what follows them in one pass: bias, a residual, ReLU.

Two kinds with one interface: `onednn.PackedConv2d` for CPUs, and `BiasActConv2d`, whose pass after
the convolution is one Triton kernel, for GPUs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torchvision.models.resnet import Bottleneck


class FusedConv(Protocol):
    """A convolution, then perhaps a sum with another map, then perhaps a ReLU."""

    def __call__(
        self, maps: Float[Tensor, "B _ _ _"], add_to: Float[Tensor, "B _ _ _"] | None = None
    ) -> Float[Tensor, "B _ _ _"]:
        """The result; it may be written over `add_to` where that is given."""


Fuse = Callable[[nn.Conv2d, bool], nn.Module]
"""A convolution, and whether a ReLU follows, to a `FusedConv`."""


class BiasActConv2d(nn.Module):
    """See `FusedConv`; a library's convolution without bias, then one kernel.

    What is added may have half the height and width: it is upsampled on the way.
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
        found = F.conv2d(
            maps, conv.weight, None, conv.stride, conv.padding, conv.dilation, conv.groups
        )
        return self._finish(found, conv.bias, add_to, self._relu)


class FusedBottleneck(nn.Module):
    """A block of ResNet-50 and larger whose norms are folded already.

    It writes over its input where that is not needed any more, as `is_input_free` says.
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
        """ReLU(residual branch + shortcut)."""
        residual = self._spatial(self._reduce(maps))
        if self._shortcut is not None:
            shortcut = self._shortcut(maps)
        else:
            shortcut = maps if self._is_input_free else maps.clone()
        return self._expand(residual, add_to=shortcut)


def fuse_blocks(stage: nn.Module, fuse: Fuse) -> nn.Module:
    """The blocks of a ResNet stage fused, where they are bottlenecks; else the stage as it is.

    Inside a stage each block's input is nobody else's; the first block's is the stage before's map.
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
