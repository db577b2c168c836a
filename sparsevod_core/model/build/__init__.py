"""Construction of a detector from its `ModelConfig`, which no other folder of `model/` reads."""

from __future__ import annotations

from sparsevod_core.config import ModelConfig
from sparsevod_core.model.build.mega import build_mega
from sparsevod_core.model.build.sparse_rcnn import build_sparsevod
from sparsevod_core.model.build.transvod import build_transvod
from sparsevod_core.model.build.two_stage import build_two_stage
from sparsevod_core.model.video_detector import VideoDetector


def build_detector(config: ModelConfig, *, backbone_weights: str = "none") -> VideoDetector:
    """Build the detector that `config` describes, newly initialized.

    Args:
        config: sizes and variants.
        backbone_weights: `none`, `imagenet` (downloaded by torchvision; of lite0: from a package),
            or the path of a state_dict of a torchvision network, or of lite0 as in the package.

    Raises:
        CheckpointError: the backbone file is missing, unsafe or of another network.
    """
    if config.system == "sparsevod":
        return build_sparsevod(config, backbone_weights)
    if config.system == "transvod":
        return build_transvod(config, backbone_weights)
    if config.system == "mega":
        return build_mega(config, backbone_weights)
    return build_two_stage(config, backbone_weights)
