"""The detector for use: the same numbers as `sparsevod_core.model`, sooner."""

from sparsevod_core.fast.cuda_graph import GraphedDetector
from sparsevod_core.fast.detector import FastDetector
from sparsevod_core.fast.support_bank import SupportBank

__all__ = ["FastDetector", "GraphedDetector", "SupportBank"]
