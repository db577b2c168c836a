"""Inspectors: what `inspect_stages` can show of each family of detectors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sparsevod_core.config import ModelConfig
from sparsevod_core.inference.inspectors.fgfa import FGFAInspector
from sparsevod_core.inference.inspectors.inspector import Inspector
from sparsevod_core.inference.inspectors.mamba import MambaInspector
from sparsevod_core.inference.inspectors.mega import MEGAInspector
from sparsevod_core.inference.inspectors.selsa import SelsaInspector, TroiInspector
from sparsevod_core.inference.inspectors.sparsevod import SparseVODInspector
from sparsevod_core.inference.inspectors.transvod import TransVODInspector
from sparsevod_core.inference.inspectors.two_stage import TwoStageInspector
from sparsevod_core.model.detector import SparseVOD
from sparsevod_core.model.fgfa.detector import FGFA
from sparsevod_core.model.mega.detector import MEGA
from sparsevod_core.model.transvod.detector import TransVOD
from sparsevod_core.model.two_stage.faster_rcnn import FasterRCNN
from sparsevod_core.model.two_stage.mamba import Mamba
from sparsevod_core.model.two_stage.selsa import Selsa
from sparsevod_core.model.two_stage.troi import Troi
from sparsevod_core.model.video_detector import VideoDetector

__all__ = ["Inspector", "inspector_of"]

INSPECTORS: dict[type[VideoDetector], Callable[[Any], Inspector]] = {
    FasterRCNN: TwoStageInspector,
    Selsa: SelsaInspector,
    Troi: TroiInspector,
    Mamba: MambaInspector,
    FGFA: FGFAInspector,
    MEGA: MEGAInspector,
    TransVOD: TransVODInspector,
}


def inspector_of(detector: VideoDetector, config: ModelConfig) -> Inspector:
    """Return a new inspector for one video.

    Args:
        detector: Detector as it was trained, not an optimized copy.
        config: Its settings.
    """
    if type(detector) in INSPECTORS:
        return INSPECTORS[type(detector)](detector)
    assert isinstance(detector, SparseVOD)
    return SparseVODInspector(detector, config.proposal_init)
