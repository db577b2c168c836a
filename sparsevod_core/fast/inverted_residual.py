"""Blocks of EfficientNet-Lite0 with ReLU6 fused into packed convolutions, for CPUs.

On one core PyTorch does not use oneDNN for 1x1 convolutions in fp32, which are most of the network.
"""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn

from sparsevod_core.fast.onednn import PackedConv2d
from sparsevod_core.model.efficientnet_lite import InvertedResidual

LIMIT = 6.0  # of ReLU6


class PackedInvertedResidual(nn.Module):
    """`InvertedResidual` whose BatchNorms have been folded.

    Args:
        is_input_free: if True, the block may overwrite its input.
    """

    def __init__(self, block: InvertedResidual, *, is_input_free: bool) -> None:
        super().__init__()
        self._expand: nn.Module = nn.Identity()
        if isinstance(block.expand_conv, nn.Conv2d):
            self._expand = PackedConv2d(block.expand_conv, True, limit=LIMIT)
        self._pad = block.pad
        self._spatial = PackedConv2d(block.depthwise_conv, True, limit=LIMIT)
        self._project = PackedConv2d(block.project_conv, False)
        self._has_shortcut = block.has_shortcut
        self._is_input_free = is_input_free

    def forward(self, maps: Float[Tensor, "B _ H W"]) -> Float[Tensor, "B C _ _"]:
        """Return the map of the block."""
        inner = self._spatial(self._pad(self._expand(maps)))
        if not self._has_shortcut:
            return self._project(inner)
        return self._project(inner, add_to=maps if self._is_input_free else maps.clone())


def pack_inverted_residuals(part: nn.Module) -> None:
    """Replace the blocks of a stem or a stage in place; other networks have none.

    Only the input of the first block is used elsewhere: it is the map of the previous stage.
    """
    for number, (name, block) in enumerate(list(part.named_children())):
        if isinstance(block, InvertedResidual):
            setattr(part, name, PackedInvertedResidual(block, is_input_free=number > 0))
