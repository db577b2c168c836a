"""Choice of device and precision."""

from __future__ import annotations

import torch

from sparsevod_core.errors import ConfigError


def resolve_device(name: str) -> torch.device:
    """Return the device of a name; `auto` is the GPU if there is one, else the CPU.

    Raises:
        ConfigError: An unknown name, or a GPU that does not exist.
    """
    num_gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name == "auto":
        return torch.device("cuda" if num_gpus else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        device = None
    if device is None or device.type not in ("cpu", "cuda"):
        raise ConfigError(f"unknown device {name!r}", hint="expected auto, cpu, cuda or cuda:N")
    if device.type == "cuda" and (device.index or 0) >= num_gpus:
        available = f"{num_gpus} GPU{'s' * (num_gpus > 1)}" if num_gpus else "no GPU"
        raise ConfigError(
            f"device {name}: torch sees {available} on this machine",
            hint="use --device cpu, or run `sparsevod doctor` to see what torch finds",
        )
    return device


def resolve_precision(name: str, device: torch.device) -> str:
    """Return the precision of a name; `auto` is bf16 if the device supports it, else fp32."""
    if name != "auto":
        return name
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    # Not all supported versions of torch have a public function for this.
    checks = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return "bf16" if any(getattr(torch.cpu, check, bool)() for check in checks) else "fp32"
