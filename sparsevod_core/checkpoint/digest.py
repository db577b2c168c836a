"""Digests that identify the content of a file or of a model."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor


def digest(path: Path) -> str:
    """Return a short text that identifies the bytes of a file."""
    with path.open("rb") as file:
        return f"sha256 {hashlib.file_digest(file, 'sha256').hexdigest()[:16]}"


def model_digest(weights: Mapping[str, Tensor], described: Any) -> str:
    """Return a short text that identifies weights and what else makes up a model, for JSON.

    It does not depend on the device or the memory format.
    """
    content = hashlib.sha256(json.dumps(described, sort_keys=True).encode())
    for name, weight in sorted(weights.items()):
        content.update(f"{name} {weight.dtype} {list(weight.shape)}".encode())
        content.update(weight.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return f"sha256 {content.hexdigest()[:16]}"
