"""The detector as it is now, scored on the validation set."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import torch

from sparsevod_core.config import Config
from sparsevod_core.data.records import VideoSet
from sparsevod_core.evaluation.evaluate import evaluate
from sparsevod_core.inference import Predictor
from sparsevod_core.model.detector import SparseVOD
from sparsevod_core.reporting import Reporter
from sparsevod_core.structures import Category


def validate(
    detector: SparseVOD,
    config: Config,
    categories: Sequence[Category],
    videos: VideoSet,
    device: torch.device,
    reporter: Reporter,
) -> dict[str, Any]:
    """AP, AP50 and AP75 in 0..1, `per_class` AP by name, and the seconds it took.

    All ranks call this, take a share of the videos, and get the same numbers. Leaves the detector
    in eval mode. An AP that does not exist, where nothing is annotated, is 0.
    """
    start = time.monotonic()
    predictor = Predictor(detector, config, categories, device=str(device))
    scores = evaluate(predictor, videos, reporter=reporter).to_dict()
    return {
        **{name: scores[name] or 0.0 for name in ("AP", "AP50", "AP75")},
        "per_class": {name: numbers["AP"] for name, numbers in scores["per_class"].items()},
        "seconds": round(time.monotonic() - start, 3),
    }
