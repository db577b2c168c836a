"""The weights that a run begins with."""

from __future__ import annotations

from collections.abc import Sequence

from sparsevod_core.checkpoint import initialize_from
from sparsevod_core.config import Config
from sparsevod_core.errors import CheckpointError
from sparsevod_core.model.build import build_detector
from sparsevod_core.model.detector import SparseVOD
from sparsevod_core.reporting import Reporter
from sparsevod_core.structures import Category
from sparsevod_core.training.optim import is_backbone


def starting_detector(
    config: Config, categories: Sequence[Category], reporter: Reporter
) -> SparseVOD:
    """A new detector with the backbone's weights, then what fits of `train.init_from`.

    A checkpoint that brings the whole backbone needs no other weights for it: none are downloaded.

    Raises:
        CheckpointError: a file, or the download, that fails or does not fit.
    """
    if config.train.init_from is None:
        return _with_backbone(config)
    detector = build_detector(config.model)
    report = initialize_from(detector, config.train.init_from, categories)
    lacks_backbone = any(is_backbone(name) for name in report.new)
    if lacks_backbone and config.train.backbone_weights != "none":
        detector = _with_backbone(config)
        report = initialize_from(detector, config.train.init_from, categories)
        reporter.message(f"backbone, before that: {config.train.backbone_weights} weights")
    for line in report.lines():
        reporter.message(line)
    return detector


def _with_backbone(config: Config) -> SparseVOD:
    weights = config.train.backbone_weights
    try:
        return build_detector(config.model, backbone_weights=weights)
    except OSError as error:  # what a download without network raises
        raise CheckpointError(
            f"the {weights} weights of {config.model.backbone} cannot be downloaded: {error}",
            hint="--backbone-weights FILE takes torchvision's state_dict from a file, "
            "none trains from scratch",
        ) from error
