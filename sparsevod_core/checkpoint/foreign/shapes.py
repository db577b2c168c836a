"""Sizes of a network, read from the shapes of its weights under our names."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TypeAlias

from torch import Tensor

from sparsevod_core.errors import CheckpointError

Shapes: TypeAlias = Mapping[str, tuple[int, ...]]

# Key: blocks per ResNet stage, and layer1's 3x3 convolution (channels out, channels in per group).
BACKBONES: dict[tuple[tuple[int, ...], tuple[int, ...]], str] = {
    ((3, 4, 6, 3), (64, 64)): "r50",
    ((3, 4, 23, 3), (64, 64)): "r101",
    ((3, 4, 23, 3), (256, 8)): "x101_32x8d",
    ((3, 4, 23, 3), (256, 4)): "x101_64x4d",
}


def shapes_of(state: Mapping[str, Tensor]) -> Shapes:
    """Return the shape of each weight."""
    return {name: tuple(value.shape) for name, value in state.items()}


def backbone_of(shapes: Shapes, network: str) -> str:
    """Return the name of the backbone.

    Args:
        shapes: shapes by our names.
        network: what the file contains, for the error message.

    Raises:
        CheckpointError: it is a backbone that we do not have.
    """
    blocks = tuple(count_of(shapes, rf"backbone\.stages\.{stage}\.(\d+)\.") for stage in range(4))
    conv = shapes.get("backbone.stages.0.0.conv2.weight", ())
    name = BACKBONES.get((blocks, conv[:2]))
    if name is None:
        blocks_text = "-".join(map(str, blocks))
        raise CheckpointError(
            f"{network}: expected backbone ResNet-50, ResNet-101 or ResNeXt-101 (32x8d "
            f"or 64x4d), got {blocks_text} residual blocks with first 3x3 convolution {list(conv)}"
        )
    return name


def shape_of(
    shapes: Shapes, name: str, dims: int, network: str, called: str | None = None
) -> tuple[int, ...]:
    """Return the shape of a weight that must have `dims` dimensions.

    Args:
        shapes: shapes by our names.
        name: our name of the weight.
        dims: expected number of dimensions.
        network: what the file contains, for the error message.
        called: name of the weight in the file; None: ours.

    Raises:
        CheckpointError: the weight is missing, or has another number of dimensions.
    """
    shape = shapes.get(name)
    if shape is None or len(shape) != dims:
        found = "nothing" if shape is None else f"shape {list(shape)}"
        raise CheckpointError(
            f"{network}: expected {called or name} with {dims} dimensions, got {found}"
        )
    return shape


def count_of(shapes: Shapes, pattern: str) -> int:
    """Return how many different numbers the group of `pattern` has at the start of the names."""
    return len({match[1] for name in shapes if (match := re.match(pattern, name))})
