"""Which frames of a rendered set are degraded, how and how badly: a file beside its folders.

ImageNet's XML has no place for it. `{"frames": {"Data/VID/val/SNIPPET/000003.JPEG": {"noise":
0.8}}}`: kind and severity (0..1); frames that are not named are clean.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from sparsevod_core.errors import DataError

FILE_NAME = "degradations.json"

Degradations = Mapping[str, Mapping[str, float]]
"""Severity by kind, by the frame's file name relative to the tree."""


def write_degradations(root: Path, degradations: Degradations) -> None:
    """Write the file into the tree at `root`."""
    text = json.dumps({"frames": degradations}, indent=1)
    (root / FILE_NAME).write_text(text + "\n", encoding="utf-8")


def read_degradations(root: Path) -> Degradations | None:
    """The tree's degradations; None where it has no such file, as every real data set.

    Raises:
        DataError: the file is there but of another form.
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
            f"{path}: expected severities by frame, cannot read it: {error}",
            hint="it is optional: convert without it by moving it away",
        ) from error
