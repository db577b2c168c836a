"""Writing of figures and images; a file appears under its name only when complete."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8
from matplotlib import rc_context
from matplotlib.figure import Figure

from sparsevod_core.errors import ConfigError, DataError
from sparsevod_core.figures.stage_layout import FONT

SETTINGS: dict[Any, Any] = {
    "font.family": FONT,
    "text.usetex": False,
    "text.hinting": "none",  # letters keep the width that the layout measured
    "savefig.dpi": "figure",
    "pdf.fonttype": 42,  # TrueType, embedded: text stays text
    "svg.hashsalt": "sparsevod",  # reproducible names of parts
    "savefig.bbox": None,
}

# Metadata to omit, so that the same figure always gives the same file.
_DATES = {"png": (), "pdf": ("CreationDate",), "svg": ("Date",)}


def figure_kind(path: Path) -> str:
    """Return `png`, `pdf` or `svg`, according to the suffix.

    Raises:
        ConfigError: Another suffix.
    """
    kind = path.suffix.lower().lstrip(".")
    if kind not in _DATES:
        raise ConfigError(f"{path}: expected a figure as .png, .pdf or .svg, got {path.suffix!r}")
    return kind


def save_figure(figure: Figure, path: Path) -> None:
    """Write a PNG, PDF or SVG, according to the suffix.

    Raises:
        ConfigError: Another suffix.
        DataError: The file cannot be written.
    """
    kind = figure_kind(path)
    with _complete(path) as partial, rc_context(SETTINGS):
        figure.savefig(partial, format=kind, metadata=dict.fromkeys(_DATES[kind]))


def save_picture(image: UInt8[np.ndarray, "H W 3"], path: Path) -> None:
    """Write RGB pixels as PNG or JPEG, according to the suffix.

    Raises:
        DataError: The file cannot be written.
    """
    from PIL import Image

    kind = {".png": "PNG", ".jpg": "JPEG"}[path.suffix]
    with _complete(path) as partial:
        Image.fromarray(image).save(partial, format=kind, quality=92)


@contextmanager
def _complete(path: Path) -> Iterator[Path]:
    """Provide a path to write to, which becomes `path` when the block ends without an error."""
    partial = path.with_name(path.name + ".partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield partial
        partial.replace(path)
    except OSError as error:
        with suppress(OSError):
            partial.unlink()
        raise DataError(f"{path}: cannot write: {error.strerror or error}") from error
