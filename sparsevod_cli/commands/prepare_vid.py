"""`sparsevod prepare-vid`."""

from __future__ import annotations


def prepare_vid() -> None:
    """To come."""
