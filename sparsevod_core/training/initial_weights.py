"""Initial weights of a run."""

from __future__ import annotations

from collections.abc import Sequence

from sparsevod_core.checkpoint import initialize_from
from sparsevod_core.config import Config
from sparsevod_core.errors import CheckpointError
from sparsevod_core.model.build import build_detector
from sparsevod_core.model.video_detector import VideoDetector
from sparsevod_core.reporting import Reporter
from sparsevod_core.structures import Category
from sparsevod_core.training.optim import is_backbone


def initial_detector(
    config: Config, categories: Sequence[Category], reporter: Reporter
) -> VideoDetector:
    """Return a new detector with backbone weights and the matching weights of `train.init_from`.

    If that checkpoint has a complete backbone, no other backbone weights are loaded or downloaded.

    Raises:
        CheckpointError: A file that does not fit, or a failed download.
    """
    if config.train.init_from is None:
        return _with_backbone(config)
    detector = build_detector(config.model)
    report = initialize_from(detector, config.train.init_from, categories, reporter)
    lacks_backbone = any(is_backbone(name) for name in report.new)
    if lacks_backbone and config.train.backbone_weights != "none":
        detector = _with_backbone(config)
        report = initialize_from(detector, config.train.init_from, categories, reporter)
        reporter.message(f"backbone initialized with {config.train.backbone_weights} weights first")
    for line in report.lines():
        reporter.message(line)
    return detector


def _with_backbone(config: Config) -> VideoDetector:
    weights = config.train.backbone_weights
    try:
        return build_detector(config.model, backbone_weights=weights)
    except OSError as error:  # raised by a download without network
        raise CheckpointError(
            f"cannot download the {weights} weights of {config.model.backbone}: {error}",
            hint="use --backbone-weights FILE to load torchvision's state_dict from a file, or "
            "--backbone-weights none to train from scratch",
        ) from error
