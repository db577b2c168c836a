"""SparseVOD: video object detection with temporal proposals, in pure PyTorch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sparsevod_core.config import Config
    from sparsevod_core.errors import SparseVodError
    from sparsevod_core.evaluation.evaluate import evaluate
    from sparsevod_core.inference import Predictor
    from sparsevod_core.model.build import build_detector
    from sparsevod_core.structures import Detections
    from sparsevod_core.training.trainer import Trainer

__all__ = [
    "Config",
    "Detections",
    "Predictor",
    "SparseVodError",
    "Trainer",
    "build_detector",
    "evaluate",
]

_HOME = {
    "Config": "sparsevod_core.config",
    "Detections": "sparsevod_core.structures",
    "Predictor": "sparsevod_core.inference",
    "SparseVodError": "sparsevod_core.errors",
    "Trainer": "sparsevod_core.training.trainer",
    "build_detector": "sparsevod_core.model.build",
    "evaluate": "sparsevod_core.evaluation.evaluate",
}


def __getattr__(name: str) -> Any:
    # Lazy, so that `import sparsevod_core.errors` (and `--help`) does not import torch.
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOME[name]), name)
