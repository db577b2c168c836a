"""`sparsevod eval`."""

from __future__ import annotations


def evaluate() -> None:
    """To come."""
