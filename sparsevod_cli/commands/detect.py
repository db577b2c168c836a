"""`sparsevod detect`."""

from __future__ import annotations


def detect() -> None:
    """To come."""
