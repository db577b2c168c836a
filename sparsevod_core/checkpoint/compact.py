"""Checkpoints to pass on: half the size, without what only the machine that made them knows."""

from __future__ import annotations

from dataclasses import replace

import torch

from sparsevod_core.checkpoint.contents import Checkpoint
from sparsevod_core.config import DataConfig
from sparsevod_core.errors import CheckpointError

NO_PATHS = {
    "data.train_annotations": DataConfig().train_annotations,
    "data.train_root": None,
    "data.val_annotations": None,  # so that `sparsevod eval` asks which videos
    "data.val_root": None,
    "train.init_from": None,
}


def compact_checkpoint(checkpoint: Checkpoint) -> Checkpoint:
    """The same model in half precision, without paths and training state.

    A detector that loads it computes in float32 as ever.

    Raises:
        CheckpointError: a weight that half precision cannot hold.
    """
    model = {
        name: value.half() if value.is_floating_point() else value
        for name, value in checkpoint.model.items()
    }
    for name, value in model.items():
        if not torch.isfinite(value).all():
            raise CheckpointError(f"{name} holds numbers that are not finite in half precision")
    config = checkpoint.config.replace(NO_PATHS)
    return replace(checkpoint, config=config, model=model, training=None)
