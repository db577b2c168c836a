"""EfficientNet-Lite0 with weights of ImageNet."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from sparsevod_core.model.backbone import group_norm
from sparsevod_core.model.build.state_dicts import read_state, require_same_tensors
from sparsevod_core.model.detector import PIXEL_MEAN, PIXEL_STD
from sparsevod_core.model.efficientnet_lite import (
    BatchNorm,
    EfficientNetLite0,
    efficientnet_lite_parts,
)
from sparsevod_core.weights.lite0_package import lite0_weights_file

MEAN, SCALE = 127.0, 128.0  # pixels are normalized to (x - 127) / 128 in the published network


def lite0_parts(norm: str, weights: str) -> tuple[nn.Module, list[nn.Module], list[int]]:
    """Return stem, stages and stage channels.

    Args:
        norm: `ModelConfig.norm`.
        weights: see `build_detector`.

    Raises:
        CheckpointError: the weights are missing, unsafe or of another network.
    """
    network = EfficientNetLite0(group_norm if norm == "group" else BatchNorm)
    if weights != "none":
        load_lite0(network, lite0_weights_file() if weights == "imagenet" else Path(weights))
    return efficientnet_lite_parts(network)


def load_lite0(network: EfficientNetLite0, path: Path) -> None:
    """Load published weights, and fold their normalization of pixels into the first layer.

    The network then takes images that are normalized as for torchvision's networks. Its results are
    the same except near the right and lower border: `SAME` pads with zeros, which are the color
    (127, 127, 127) for the published network, and ImageNet's mean color (124, 116, 104) for ours.

    Raises:
        CheckpointError: the file is missing, unsafe or of another network.
    """
    state = {
        name.removeprefix("_").replace("._", "."): tensor
        for name, tensor in read_state(path).items()
    }
    require_same_tensors(path, state, network.state_dict(), "EfficientNet-Lite0")
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (PIXEL_MEAN, PIXEL_STD))
    weight = state["conv_stem.weight"]
    state["conv_stem.weight"] = weight * std / SCALE
    offset = (weight * (mean - MEAN) / SCALE).sum(dim=(1, 2, 3))
    state["bn0.running_mean"] = state["bn0.running_mean"] - offset
    network.load_state_dict(state)
