"""Choice of the loss by system."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from sparsevod_core.config import Config
from sparsevod_core.losses.criterion import SetCriterion
from sparsevod_core.losses.losses import Losses
from sparsevod_core.losses.two_stage import TwoStageCriterion
from sparsevod_core.structures import Targets


class Criterion(Protocol):
    """Loss of a detector."""

    def __call__(self, output: Any, targets: Sequence[Targets], num_boxes: float) -> Losses:
        """Return the losses of a batch.

        Args:
            output: What the detector's `forward` returned.
            targets: Ground truth of each clip.
            num_boxes: Number of boxes in the step, averaged over the ranks, at least 1.
        """


def build_criterion(config: Config) -> Criterion:
    """Return the loss of `model.system`."""
    if config.model.system in ("sparsevod", "transvod"):
        return SetCriterion(config.loss)
    return TwoStageCriterion(num_batches=config.train.accumulate)
