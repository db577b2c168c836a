"""Convolutions with what follows them in one pass over the map, for CPUs.

oneDNN adds a residual and applies a ReLU while a convolution's result is in the cache, and wants
its weights in an order that depends on the map. torch calls it so from code that it compiles,
through the operators used here; they are not public, so that `can_fuse` tries them first.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torchvision.models.resnet import Bottleneck


class FusedConv2d(nn.Module):
    """A convolution, then perhaps a sum with another map, then perhaps a ReLU."""

    def __init__(self, conv: nn.Conv2d, *, relu: bool) -> None:
        super().__init__()
        self._conv = conv
        self._relu = relu
        self._packed: dict[torch.Size, Tensor] = {}

    def forward(
        self, maps: Float[Tensor, "B _ _ _"], add_to: Float[Tensor, "B _ _ _"] | None = None
    ) -> Float[Tensor, "B _ _ _"]:
        """The result; written over `add_to` where that is given."""
        conv = self._conv
        geometry: tuple[Any, ...] = (conv.padding, conv.stride, conv.dilation, conv.groups)
        if maps.shape not in self._packed:
            pack: Any = torch._C._nn.mkldnn_reorder_conv2d_weight
            weight = conv.weight.to_mkldnn()
            self._packed[maps.shape] = pack(weight, *geometry, list(maps.shape))
        weight = self._packed[maps.shape]
        if add_to is None:
            return torch.ops.mkldnn._convolution_pointwise(
                maps, weight, conv.bias, *geometry, "relu" if self._relu else "none", [], ""
            )
        then = "relu" if self._relu else None
        return torch.ops.mkldnn._convolution_pointwise_.binary(
            add_to, maps, weight, conv.bias, *geometry, "add", 1.0, then, [], ""
        )


class FusedBottleneck(nn.Module):
    """A block of ResNet-50 and larger whose norms are folded already.

    It writes over its input where that is not needed any more, as `is_input_free` says.
    """

    def __init__(self, block: Bottleneck, *, is_input_free: bool) -> None:
        super().__init__()
        self._reduce = FusedConv2d(block.conv1, relu=True)
        self._spatial = FusedConv2d(block.conv2, relu=True)
        self._expand = FusedConv2d(block.conv3, relu=True)
        self._shortcut = None
        if block.downsample is not None:
            self._shortcut = FusedConv2d(block.downsample[0], relu=False)
        self._is_input_free = is_input_free

    def forward(self, maps: Float[Tensor, "B _ _ _"]) -> Float[Tensor, "B _ _ _"]:
        """ReLU(residual branch + shortcut)."""
        residual = self._spatial(self._reduce(maps))
        if self._shortcut is not None:
            shortcut = self._shortcut(maps)
        else:
            shortcut = maps if self._is_input_free else maps.clone()
        return self._expand(residual, add_to=shortcut)


def fuse_blocks(stage: nn.Module) -> nn.Module:
    """The blocks of a ResNet stage fused, where they are bottlenecks; else the stage as it is.

    Inside a stage each block's input is nobody else's; the first block's is the stage before's map.
    """
    blocks = list(stage.children())
    if not all(isinstance(block, Bottleneck) for block in blocks):
        return stage
    return nn.Sequential(
        *(FusedBottleneck(block, is_input_free=number > 0) for number, block in enumerate(blocks))
    )


@cache
def can_fuse(dtype: torch.dtype) -> bool:
    """Whether this torch and this processor do what this module asks, and right."""
    if not torch.backends.mkldnn.is_available():
        return False
    conv = nn.Conv2d(4, 4, 3, padding=1).to(dtype).to(memory_format=torch.channels_last)
    maps = torch.linspace(-1, 1, 4 * 64).view(1, 4, 8, 8).to(dtype)
    maps = maps.to(memory_format=torch.channels_last)
    with torch.inference_mode():
        expected = (conv(maps) + maps).relu()
        try:
            fused = FusedConv2d(conv, relu=True)(maps, add_to=maps.clone())
        except (AttributeError, RuntimeError, TypeError):
            return False
        return torch.allclose(fused.float(), expected.float(), atol=0.05)
