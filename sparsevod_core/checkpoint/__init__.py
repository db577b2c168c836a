"""Checkpoints of this project and of other Sparse R-CNN implementations.

`contents` defines a checkpoint, `file` saves and loads checkpoints, `digest` identifies their
content, `compact` makes small ones for distribution, `foreign` converts those of other projects,
`detector` builds the detector of a checkpoint, and `initialize` loads what fits of it into another
detector.
"""

from sparsevod_core.checkpoint.compact import compact_checkpoint
from sparsevod_core.checkpoint.contents import Checkpoint
from sparsevod_core.checkpoint.detector import load_detector
from sparsevod_core.checkpoint.file import load_checkpoint, save_checkpoint
from sparsevod_core.checkpoint.init_report import InitReport
from sparsevod_core.checkpoint.initialize import initialize_from
from sparsevod_core.embedded import embedded_checkpoint

__all__ = [
    "Checkpoint",
    "InitReport",
    "compact_checkpoint",
    "embedded_checkpoint",
    "initialize_from",
    "load_checkpoint",
    "load_detector",
    "save_checkpoint",
]
