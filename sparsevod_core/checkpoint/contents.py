"""What a checkpoint holds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor

from sparsevod_core.config import Config
from sparsevod_core.errors import CheckpointError
from sparsevod_core.structures import Category

Source = Literal["sparsevod", "mmdetection", "original"]

SOURCE_NAMES: dict[Source, str] = {
    "sparsevod": "SparseVOD",
    "mmdetection": "MMDetection's Sparse R-CNN",
    "original": "the original Sparse R-CNN",
}


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A detector's weights and all that is needed to use them or to train on.

    Attributes:
        config: the settings of the run that made it; of a foreign file what its shapes tell.
        categories: `categories[k]` is the class of label k.
        model: `SparseVOD.state_dict()`, on the CPU when loaded.
        training: where training stands, in plain containers, tensors and numbers; None where
            training does not go on from here.
        source: who made it.
        unknown: names in a foreign file that are no part of a Sparse R-CNN.

    Raises:
        CheckpointError: as many categories as classes are needed.
    """

    config: Config
    categories: tuple[Category, ...]
    model: dict[str, Tensor]
    training: dict[str, Any] | None = None
    source: Source = "sparsevod"
    unknown: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if len(self.categories) != self.config.model.num_classes:
            raise CheckpointError(
                f"{len(self.categories)} categories for a detector of "
                f"{self.config.model.num_classes} classes"
            )
