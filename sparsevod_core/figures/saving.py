"""Writing of figures and images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8
from matplotlib import rc_context
from matplotlib.figure import Figure

from sparsevod_core.errors import ConfigError
from sparsevod_core.figures.stage_layout import FONT
from sparsevod_core.files.kinds import MARK, MARKED
from sparsevod_core.files.unfinished import writing

SETTINGS: dict[Any, Any] = {
    "font.family": FONT,
    "text.usetex": False,
    "text.hinting": "none",  # letters keep the width that the layout measured
    "savefig.dpi": "figure",
    "pdf.fonttype": 42,  # TrueType, embedded: text stays text
    "svg.hashsalt": "sparsevod",  # reproducible names of parts
    "savefig.bbox": None,
}

# By which an earlier figure is recognized, and no date, so that the same figure always gives the
# same file.
_METADATA: dict[str, dict[str, Any]] = {
    "png": {"Software": MARK},
    "pdf": {"Creator": MARK, "CreationDate": None},
    "svg": {"Creator": MARK, "Date": None},
}


def figure_kind(path: Path) -> str:
    """Return `png`, `pdf` or `svg`, according to the suffix.

    Raises:
        ConfigError: Another suffix.
    """
    kind = path.suffix.lower().lstrip(".")
    if kind not in _METADATA:
        raise ConfigError(f"{path}: expected a figure as .png, .pdf or .svg, got {path.suffix!r}")
    return kind


def save_figure(figure: Figure, path: Path) -> None:
    """Write a PNG, PDF or SVG, according to the suffix.

    Raises:
        ConfigError: Another suffix, or there is a file that is no earlier figure.
        DataError: The file cannot be written.
    """
    kind = figure_kind(path)
    with writing(path, MARKED) as file, rc_context(SETTINGS):
        figure.savefig(file, format=kind, metadata=_METADATA[kind])


def save_picture(image: UInt8[np.ndarray, "H W 3"], path: Path) -> None:
    """Write RGB pixels as PNG or JPEG, according to the suffix.

    Raises:
        ConfigError: There is a file that is no earlier picture.
        DataError: The file cannot be written.
    """
    from PIL import Image, PngImagePlugin

    options: dict[str, Any] = {"format": "JPEG", "quality": 92, "comment": MARK}
    if path.suffix == ".png":
        about = PngImagePlugin.PngInfo()
        about.add_text("Software", MARK)
        options = {"format": "PNG", "pnginfo": about}
    with writing(path, MARKED) as file:
        Image.fromarray(image).save(file, **options)
