"""Figures and pictures into files, which appear under their name only when complete."""

from __future__ import annotations

from contextlib import suppress
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
    "text.hinting": "none",  # letters as wide as the layout measured them
    "savefig.dpi": "figure",
    "pdf.fonttype": 42,  # TrueType, embedded: text stays text
    "svg.hashsalt": "sparsevod",  # names of parts that are the same each time
    "savefig.bbox": None,
}

# Without its date the same figure is the same file.
_DATES = {"png": (), "pdf": ("CreationDate",), "svg": ("Date",)}


def figure_kind(path: Path) -> str:
    """`png`, `pdf` or `svg`, as the suffix says.

    Raises:
        ConfigError: another suffix.
    """
    kind = path.suffix.lower().lstrip(".")
    if kind not in _DATES:
        raise ConfigError(f"{path}: a figure is written as .png, .pdf or .svg, not {path.suffix!r}")
    return kind


def save_figure(figure: Figure, path: Path) -> None:
    """Write a PNG, PDF or SVG, as the suffix says, under its final name only when complete.

    Raises:
        ConfigError: another suffix.
        DataError: the file cannot be written.
    """
    kind = figure_kind(path)
    partial = path.with_name(path.name + ".partial")
    metadata = dict.fromkeys(_DATES[kind])
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with rc_context(SETTINGS):
            figure.savefig(partial, format=kind, metadata=metadata)
        partial.replace(path)
    except OSError as error:
        with suppress(OSError):
            partial.unlink()
        raise DataError(f"{path}: cannot write: {error.strerror or error}") from error


def save_picture(image: UInt8[np.ndarray, "H W 3"], path: Path) -> None:
    """Write RGB pixels as PNG or JPEG, as the suffix says, under its name only when complete.

    Raises:
        DataError: the file cannot be written.
    """
    from PIL import Image

    kind = {".png": "PNG", ".jpg": "JPEG"}[path.suffix]
    partial = path.with_name(path.name + ".partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(partial, format=kind, quality=92)
        partial.replace(path)
    except OSError as error:
        with suppress(OSError):
            partial.unlink()
        raise DataError(f"{path}: cannot write: {error.strerror or error}") from error
