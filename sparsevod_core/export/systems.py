"""Which graphs a detector is exported as."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from sparsevod_core.errors import ConfigError
from sparsevod_core.export.graphs import FrameGraph, SupportGraph
from sparsevod_core.export.two_stage_graphs import (
    SelsaFrameGraph,
    SelsaSupportGraph,
    TroiFrameGraph,
    TroiSupportGraph,
    TwoStageGraph,
)
from sparsevod_core.model.detector import SparseVOD
from sparsevod_core.model.two_stage.faster_rcnn import FasterRCNN
from sparsevod_core.model.two_stage.selsa import Selsa
from sparsevod_core.model.two_stage.troi import Troi
from sparsevod_core.model.video_detector import VideoDetector


@dataclass(frozen=True, slots=True)
class Graphs:
    """Graphs of a detector for frames of one size.

    Attributes:
        frame: Graph from a target frame and what is remembered of support frames to detections.
        support: Graph from a support frame to what is remembered; None: no support frames.
        remembered: Names of that, as outputs of `support` and inputs of `frame` after the image.
    """

    frame: nn.Module
    support: nn.Module | None = None
    remembered: tuple[str, ...] = ()


def graphs_of(detector: VideoDetector, image_size: tuple[int, int]) -> Graphs:
    """Return the graphs of a detector.

    Raises:
        ConfigError: it cannot be exported.
    """
    if type(detector) not in GRAPHS:
        raise ConfigError(
            f"{type(detector).__name__} cannot be exported",
            hint="systems that can: sparsevod, selsa, troi, and the frame detector of selsa, troi, "
            "mamba and fgfa (model.temporal=false)",
        )
    frame, support, remembered = GRAPHS[type(detector)]
    return Graphs(
        frame(detector, image_size),
        None if support is None else support(detector, image_size),
        remembered,
    )


PROPOSALS = ("support_proposals", "support_valid")
GRAPHS: dict[
    type[VideoDetector], tuple[type[nn.Module], type[nn.Module] | None, tuple[str, ...]]
] = {
    SparseVOD: (FrameGraph, SupportGraph, ("support_maps", "support_proposals")),
    FasterRCNN: (TwoStageGraph, None, ()),
    Selsa: (SelsaFrameGraph, SelsaSupportGraph, PROPOSALS),
    Troi: (TroiFrameGraph, TroiSupportGraph, ("support_maps", *PROPOSALS)),
}
