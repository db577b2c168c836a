"""A training step to be measured: what the trainer does, without its records."""

from __future__ import annotations

import torch
from torch import nn

from sparsevod_core.benchmark.timing import autocast
from sparsevod_core.config import Config
from sparsevod_core.data.loader import TrainingBatch
from sparsevod_core.losses.criterion import SetCriterion
from sparsevod_core.model.build import build_detector


class TrainingStep:
    """One process's forward, matching and losses, backward and optimiser; weights are random.

    Args:
        config: `model`, `loss`, `train` and `seed` are used.
        device: where the detector is.
    """

    def __init__(self, config: Config, device: torch.device) -> None:
        torch.manual_seed(config.seed)
        self.device = device
        self.detector = build_detector(config.model).to(device).train()
        self._train = config.train
        self._criterion = SetCriterion(config.loss)
        self._parameters = [p for p in self.detector.parameters() if p.requires_grad]
        self._optimizer = torch.optim.AdamW(
            self._parameters, lr=config.train.learning_rate, weight_decay=config.train.weight_decay
        )

    def __call__(self, batch: TrainingBatch) -> None:
        """Train on a batch of the loader; does not wait for a GPU."""
        batch = batch.to(self.device, non_blocking=True)
        num_boxes = max(sum(len(targets.labels) for targets in batch.targets), 1)
        with autocast(self.device, self._train.precision):
            output = self.detector(batch.clip)
        losses = self._criterion(output, batch.targets, float(num_boxes))
        self._optimizer.zero_grad(set_to_none=True)
        losses.total.backward()
        nn.utils.clip_grad_norm_(self._parameters, self._train.clip_grad_norm)
        self._optimizer.step()
