"""Networks for backbones, with initial weights."""

from __future__ import annotations

from pathlib import Path

from torch import nn
from torchvision.models import ResNet, get_model

from sparsevod_core.config import ModelConfig
from sparsevod_core.model.backbone import group_norm, layer_norm_parts, resnet_parts, tiny_parts
from sparsevod_core.model.build.lite0 import lite0_parts
from sparsevod_core.model.build.state_dicts import read_state, require_same_tensors

TORCHVISION_NAMES = {
    "r50": "resnet50",
    "r101": "resnet101",
    "x101_32x8d": "resnext101_32x8d",
    "x101_64x4d": "resnext101_64x4d",
    "swin_t": "swin_t",
    "swin_s": "swin_s",
    "swin_b": "swin_b",
    "convnext_t": "convnext_tiny",
    "convnext_s": "convnext_small",
    "convnext_b": "convnext_base",
}
CLASSIFIERS = ("fc.", "norm.", "head.", "classifier.")  # of a ResNet, Swin (two), ConvNeXt


def network_parts(
    config: ModelConfig, weights: str
) -> tuple[nn.Module, list[nn.Module], list[int]]:
    """Return stem, stages and stage channels of the network that `config.backbone` names.

    Args:
        weights: see `build_detector`.

    Raises:
        CheckpointError: the weights file is missing, unsafe or of another network.
    """
    norm = group_norm if config.norm == "group" else nn.BatchNorm2d
    if config.backbone == "tiny":
        return tiny_parts(norm)
    if config.backbone == "lite0":
        return lite0_parts(config.norm, weights)
    name = TORCHVISION_NAMES[config.backbone]
    network = get_model(
        name,
        weights="DEFAULT" if weights == "imagenet" else None,
        **({} if config.norm == "layer" else {"norm_layer": norm}),
    )
    if weights not in ("imagenet", "none"):
        _load_backbone(network, Path(weights), name)
    return resnet_parts(network) if isinstance(network, ResNet) else layer_norm_parts(network)


def _load_backbone(network: nn.Module, path: Path, name: str) -> None:
    state = {key: value for key, value in read_state(path).items() if _is_backbone(key)}
    ours = {key: value for key, value in network.state_dict().items() if _is_backbone(key)}
    require_same_tensors(path, state, ours, f"torchvision's {name}")
    network.load_state_dict(state, strict=False)


def _is_backbone(key: str) -> bool:
    return not key.startswith(CLASSIFIERS)
