"""Checkpoints: ours, and those of others' Sparse R-CNN.

`contents` says what a checkpoint holds, `reading` opens a file without running anything in it,
`file` saves and loads, `digest` tells one from another, `compact` makes small ones to pass on,
`foreign` understands others', `detector` and `initialise` put weights into a network: a network of
their own, or parts of them into another. Where the one is that comes with the package says
`sparsevod_core.embedded`.
"""

from sparsevod_core.checkpoint.compact import compact_checkpoint
from sparsevod_core.checkpoint.contents import Checkpoint
from sparsevod_core.checkpoint.detector import load_detector
from sparsevod_core.checkpoint.file import load_checkpoint, save_checkpoint
from sparsevod_core.checkpoint.init_report import InitReport
from sparsevod_core.checkpoint.initialise import initialise_from
from sparsevod_core.embedded import embedded_checkpoint

__all__ = [
    "Checkpoint",
    "InitReport",
    "compact_checkpoint",
    "embedded_checkpoint",
    "initialise_from",
    "load_checkpoint",
    "load_detector",
    "save_checkpoint",
]
