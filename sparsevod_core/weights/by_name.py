"""Published weights in place of a checkpoint: their names are known wherever a path is."""

from __future__ import annotations

import difflib
import os
from pathlib import Path

from sparsevod_core.errors import CheckpointError
from sparsevod_core.reporting import Reporter
from sparsevod_core.weights.cache import fetch
from sparsevod_core.weights.registry import PUBLISHED, PublishedWeights


def checkpoint_file(
    path: Path | str, reporter: Reporter | None = None, *, is_start: bool = False
) -> Path:
    """Return the file of a checkpoint, given by path or as the name of published weights.

    A file of this path wins. Weights are downloaded unless they are in the cache.

    Args:
        path: Path or name. It is returned unchanged if it is neither a name nor like one.
        reporter: Receives what is downloaded, and the progress.
        is_start: If True, training starts from the weights, which may be a part of a detector.

    Raises:
        CheckpointError: A name that does not exist, or is no detector's; or see `fetch`.
        DataError: See `fetch`.
    """
    path = Path(path)
    if not is_word(path) or (os.path.lexists(path) and not path.is_dir()):
        return path
    weights = PUBLISHED.get(str(path))
    if weights is None:
        meant = _similar(str(path))
        if meant is None or path.is_dir():
            return path
        raise CheckpointError(
            f"{path}: no such checkpoint, and no published weights of this name",
            f"did you mean {meant}? `sparsevod weights` lists the names",
        )
    if not weights.is_detector and not is_start:
        raise CheckpointError(
            f"{path}: not a detector, but a part of one to start training from",
            f"use it as sparsevod train --init-from {path}",
        )
    return fetch(weights, reporter=reporter)


def published(name: str) -> PublishedWeights:
    """Return the published weights of this name.

    Raises:
        CheckpointError: There are none.
    """
    weights = PUBLISHED.get(name)
    if weights is None:
        meant = _similar(name)
        raise CheckpointError(
            f"{name}: no published weights of this name",
            f"did you mean {meant}?" if meant else "`sparsevod weights` lists the names",
        )
    return weights


def is_word(path: Path) -> bool:
    """Whether a path could be a name: no folder and no suffix."""
    return path.name == str(path) and not path.suffix


def _similar(word: str) -> str | None:
    word = word.lower().replace("_", "-")
    close = [name for name in PUBLISHED if len(word) > 2 and name.startswith(word)]
    close += difflib.get_close_matches(word, PUBLISHED, n=1, cutoff=0.6)
    return close[0] if close else None
