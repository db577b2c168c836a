"""Contents of a checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from torch import Tensor

from sparsevod_core.config import Config, System
from sparsevod_core.errors import CheckpointError
from sparsevod_core.structures import Category

Source = Literal["sparsevod", "mmdetection", "original", "mmtracking", "transvod"]

PROJECT_NAMES: dict[Source, str] = {
    "sparsevod": "",
    "mmdetection": "MMDetection's ",
    "original": "the original ",
    "mmtracking": "MMTracking's ",
    "transvod": "the original ",
}
SYSTEM_NAMES: dict[System, str] = {
    "sparsevod": "SparseVOD",
    "selsa": "SELSA",
    "troi": "Temporal RoI Align",
    "mamba": "MAMBA",
    "mega": "MEGA",
    "transvod": "TransVOD",
    "fgfa": "FGFA",
}


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Weights of a detector and everything needed to use them or to resume training.

    Attributes:
        config: settings of the run; for a foreign file, those inferred from its shapes.
        categories: `categories[k]` is the class of label k.
        model: the detector's `state_dict()`, on the CPU when loaded.
        training: state of the training in plain containers, tensors and numbers; None if it cannot
            be resumed.
        run: version, device, precision and threads of the training, see `describe_run`; None if the
            file does not say.
        source: project that wrote the file.
        unknown: names in a foreign file that do not belong to the detector.
        assumed: settings by dotted key that results depend on but that a foreign file does not
            state, so that they are those of the published models.

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
    assumed: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if len(self.categories) != self.config.model.num_classes:
            raise CheckpointError(
                f"expected {self.config.model.num_classes} categories, one per class of the "
                f"detector, got {len(self.categories)}"
            )

    @property
    def title(self) -> str:
        """Name of the detector and whose it is, such as `MMTracking's SELSA`."""
        model = self.config.model
        return title_of(self.source, model.system, model.uses_supports)

    @property
    def summary(self) -> str:
        """What the weights are: the title and the number of classes, or the part of a detector."""
        if self.model and all(name.startswith("flow.") for name in self.model):
            return f"{PROJECT_NAMES[self.source]}flow network"
        return f"{self.title}, {len(self.categories)} classes"


def title_of(source: Source, system: System, is_temporal: bool) -> str:
    """Return the name of a detector, or of the frame detector of a system, and whose it is."""
    frame_detectors = {"sparsevod": "Sparse R-CNN", "transvod": "Deformable DETR"}
    name = SYSTEM_NAMES[system] if is_temporal else frame_detectors.get(system, "Faster R-CNN")
    return PROJECT_NAMES[source] + name
