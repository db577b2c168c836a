"""The device, and the precision, that a name stands for."""

from __future__ import annotations

import torch

from sparsevod_core.errors import ConfigError


def resolve_device(name: str) -> torch.device:
    """The device of that name; `auto` is the GPU where there is one.

    Raises:
        ConfigError: an unknown name, or a GPU that is not there.
    """
    num_gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name == "auto":
        return torch.device("cuda" if num_gpus else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ConfigError(
            f"unknown device {name!r}", hint="expected auto, cpu, cuda or cuda:N"
        ) from None
    if device.type == "cuda" and (device.index or 0) >= num_gpus:
        there = f"{num_gpus} GPU{'s' * (num_gpus > 1)}" if num_gpus else "no GPU"
        raise ConfigError(
            f"device {name} asked for, but torch sees {there} here",
            hint="--device cpu works everywhere; `sparsevod doctor` tells what torch sees",
        )
    return device


def resolve_precision(name: str, device: torch.device) -> str:
    """`fp32` or `bf16`; `auto` is bf16 where the device has instructions for it."""
    if name != "auto":
        return name
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    # torch has no public name for it in all versions that are supported here.
    checks = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return "bf16" if any(getattr(torch.cpu, check, bool)() for check in checks) else "fp32"
