"""Contents of a checkpoint."""

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
    """Weights of a detector and everything needed to use them or to resume training.

    Attributes:
        config: settings of the run; for a foreign file, those inferred from its shapes.
        categories: `categories[k]` is the class of label k.
        model: `SparseVOD.state_dict()`, on the CPU when loaded.
        training: state of the training in plain containers, tensors and numbers; None if it cannot
            be resumed.
        run: version, device, precision and threads of the training, see `describe_run`; None if the
            file does not say.
        source: project that wrote the file.
        unknown: names in a foreign file that do not belong to a Sparse R-CNN.

    Raises:
        CheckpointError: the number of categories differs from the number of classes.
    """

    config: Config
    categories: tuple[Category, ...]
    model: dict[str, Tensor]
    training: dict[str, Any] | None = None
    run: dict[str, Any] | None = None
    source: Source = "sparsevod"
    unknown: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if len(self.categories) != self.config.model.num_classes:
            raise CheckpointError(
                f"expected {self.config.model.num_classes} categories, one per class of the "
                f"detector, got {len(self.categories)}"
            )
