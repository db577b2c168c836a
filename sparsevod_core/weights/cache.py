"""The folder that published weights are kept in, each file checked before it is used."""

from __future__ import annotations

import hashlib
import os
from io import FileIO
from pathlib import Path

from sparsevod_core.errors import CheckpointError, ConfigError
from sparsevod_core.files.resumable import resumable
from sparsevod_core.input_file import require_regular_file
from sparsevod_core.reporting import Reporter, SilentReporter
from sparsevod_core.weights.download import DownloadError, download
from sparsevod_core.weights.registry import BASE_URL, PublishedWeights

FOLDER_VARIABLE, URL_VARIABLE = "SPARSEVOD_CACHE", "SPARSEVOD_WEIGHTS_URL"


def cache_folder() -> Path:
    """Return the folder of `SPARSEVOD_CACHE`, or else that of the checkpoints of torch.hub."""
    given = os.environ.get(FOLDER_VARIABLE)
    if given:
        return Path(given).expanduser()
    from torch import hub

    return Path(hub.get_dir()) / "checkpoints"


def weights_url(weights: PublishedWeights) -> str:
    """Return the address of weights, below `SPARSEVOD_WEIGHTS_URL` if it is set.

    Raises:
        ConfigError: The variable is no HTTP address.
    """
    base = os.environ.get(URL_VARIABLE) or BASE_URL
    if not base.lower().startswith(("http://", "https://")):
        raise ConfigError(f"{URL_VARIABLE}={base}: expected an address of HTTP or HTTPS")
    return f"{base.rstrip('/')}/{weights.path}"


def fetch(
    weights: PublishedWeights, folder: Path | None = None, reporter: Reporter | None = None
) -> Path:
    """Return the file of weights in the cache, which is downloaded unless it is there.

    Several processes may call this at once: one downloads, the others wait for it.

    Args:
        weights: The weights.
        folder: The cache; None: see `cache_folder`.
        reporter: Receives what is downloaded, from where, and the progress.

    Raises:
        CheckpointError: The download failed, or the file is not what was published.
        DataError: The file cannot be written.
    """
    reporter = reporter or SilentReporter()
    file = (folder or cache_folder()) / weights.file_name
    if not file.exists():
        _download(weights, file, reporter)
    require_regular_file(file, CheckpointError)
    try:
        with FileIO(file) as opened:
            problem = _problem(weights, opened)
    except OSError as error:
        raise CheckpointError(f"{file}: cannot read the weights: {error.strerror}") from error
    if problem is not None:
        raise CheckpointError(
            f"{file}: not the weights {weights.name}: {problem}",
            "remove the file, and they are downloaded again",
        )
    return file


def _download(weights: PublishedWeights, file: Path, reporter: Reporter) -> None:
    url = weights_url(weights)
    reporter.message(weights.described())

    def waiting() -> None:
        reporter.message(f"waiting for another process that downloads {file}")

    try:
        with resumable(file, waiting) as partial:
            if partial is not None:
                _complete(weights, url, file, partial, reporter)
    except DownloadError as error:
        raise CheckpointError(
            f"{weights.name}: cannot download {url}: {error}",
            f"download it in another way, and save it as {file} (or in the folder of "
            f"{FOLDER_VARIABLE}), or name a mirror of {BASE_URL} in {URL_VARIABLE}",
        ) from error


def _complete(
    weights: PublishedWeights, url: str, file: Path, partial: FileIO, reporter: Reporter
) -> None:
    """Download what a partial file lacks, and check the whole."""
    size = partial.seek(0, os.SEEK_END)
    if size and not weights.digits:  # nothing would tell if the rest is of another version
        partial.truncate(size := 0)
    if size and _problem(weights, partial) is None:
        return
    continued = f", from {size / 1e6:.1f} MB on" if size else ""
    reporter.message(f"downloading {url} to {file}{continued}")
    download(url, partial, weights.name, reporter)
    problem = _problem(weights, partial)
    if size and problem is not None:
        reporter.warning(f"{weights.name}: the rest does not fit what was there; starting over")
        partial.truncate(0)
        download(url, partial, weights.name, reporter)
        problem = _problem(weights, partial)
    if problem is not None:
        partial.truncate(0)
        raise DownloadError(problem)


def _problem(weights: PublishedWeights, file: FileIO) -> str | None:
    """Return why a file is not what was published, or None if it is."""
    from sparsevod_core.weights_file import PICKLE_START, ZIP_START  # imports torch

    file.seek(0)
    start = file.read(16)
    if not start.startswith((ZIP_START, PICKLE_START)):
        return f"it is not a PyTorch file: it starts with {start!r}"
    file.seek(0)
    found = hashlib.file_digest(file, "sha256").hexdigest()
    if not found.startswith(weights.digits):
        shown = found[: len(weights.digits)]
        return f"its SHA-256 starts with {shown}, expected {weights.digits}"
    return None
