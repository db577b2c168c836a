"""Severity of degraded frames in a rendered set, in `degradations.json` beside its folders.

ImageNet's XML has no field for it. The file maps frames to kind and severity (0..1) of degradation:
`{"frames": {"Data/VID/val/SNIPPET/000003.JPEG": {"noise": 0.8}}}`. Other frames are clean.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from sparsevod_core.errors import DataError

FILE_NAME = "degradations.json"

Degradations = Mapping[str, Mapping[str, float]]
"""Severity by kind, by the frame's path relative to the tree."""


def write_degradations(root: Path, degradations: Degradations) -> None:
    """Write the file into the tree at `root`."""
    text = json.dumps({"frames": degradations}, indent=1)
    (root / FILE_NAME).write_text(text + "\n", encoding="utf-8")


def read_degradations(root: Path) -> Degradations | None:
    """Return the degradations of a tree; None without the file, as in every real data set.

    Raises:
        DataError: The file cannot be read or has another form.
    """
    path = root / FILE_NAME
    try:
        frames = json.loads(path.read_text("utf-8"))["frames"]
        return {
            str(name): {str(kind): float(severity) for kind, severity in kinds.items()}
            for name, kinds in frames.items()
        }
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DataError(
            f"{path}: expected severities by frame: {error}",
            hint="the file is optional: move it away to convert without it",
        ) from error
