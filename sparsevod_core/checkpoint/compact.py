"""Checkpoints for distribution: half the size, without local paths and training state."""

from __future__ import annotations

from dataclasses import replace

import torch

from sparsevod_core.checkpoint.contents import Checkpoint
from sparsevod_core.config import DataConfig
from sparsevod_core.errors import CheckpointError

NO_PATHS = {
    "data.train_annotations": DataConfig().train_annotations,
    "data.train_root": None,
    "data.val_annotations": None,  # so that `sparsevod eval` asks for the videos
    "data.val_root": None,
    "train.init_from": None,
}


def compact_checkpoint(checkpoint: Checkpoint) -> Checkpoint:
    """Return the model in half precision, without paths and training state.

    Detectors loaded from it still compute in float32.

    Raises:
        CheckpointError: a weight exceeds the range of half precision.
    """
    model = {
        name: value.half() if value.is_floating_point() else value
        for name, value in checkpoint.model.items()
    }
    for name, value in model.items():
        if not torch.isfinite(value).all():
            raise CheckpointError(f"{name}: a value is not finite in half precision")
    config = checkpoint.config.replace(NO_PATHS)
    return replace(checkpoint, config=config, model=model, training=None)
