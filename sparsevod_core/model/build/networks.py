"""Networks for backbones, with initial weights."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor, nn
from torchvision.models import ResNet, get_model

from sparsevod_core.config import ModelConfig
from sparsevod_core.errors import CheckpointError
from sparsevod_core.model.backbone import group_norm, layer_norm_parts, resnet_parts, tiny_parts
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
    state = read_weights(path)
    is_state = isinstance(state, dict) and all(
        isinstance(key, str) and isinstance(value, Tensor) for key, value in state.items()
    )
    if not is_state:
        raise CheckpointError(f"{path}: expected a dict of tensors, got {type(state).__name__}")
    require_finite(path, state)
    ours = {key: value for key, value in network.state_dict().items() if _is_backbone(key)}
    state = {key: value for key, value in state.items() if _is_backbone(key)}
    missing, unexpected = sorted(ours.keys() - state.keys()), sorted(state.keys() - ours.keys())
    other = [key for key in ours.keys() & state.keys() if ours[key].shape != state[key].shape]
    if missing or unexpected or other:
        raise CheckpointError(
            f"{path}: not the weights of torchvision's {name}: {len(missing)} missing (first "
            f"{missing[:1]}), {len(unexpected)} unexpected, {len(other)} of another shape"
        )
    network.load_state_dict(state, strict=False)


def _is_backbone(key: str) -> bool:
    return not key.startswith(CLASSIFIERS)
