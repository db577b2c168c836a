"""Evaluation of the detector in training on the validation set."""

from __future__ import annotations

import time
from typing import Any

from sparsevod_core.data.records import VideoSet
from sparsevod_core.evaluation.evaluate import evaluate
from sparsevod_core.inference import Predictor
from sparsevod_core.reporting import Reporter


def validate(predictor: Predictor, videos: VideoSet, reporter: Reporter) -> dict[str, Any]:
    """Return AP, AP50 and AP75 in 0..1, `per_class` AP by name, and the duration in `seconds`.

    All ranks call this, share the videos and get the same scores. AP is 0 without ground truth.
    """
    start = time.monotonic()
    scores = evaluate(predictor, videos, reporter=reporter).to_dict()
    return {
        **{name: scores[name] or 0.0 for name in ("AP", "AP50", "AP75")},
        "per_class": {name: values["AP"] for name, values in scores["per_class"].items()},
        "seconds": round(time.monotonic() - start, 3),
    }
