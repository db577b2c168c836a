"""`sparsevod train`."""

from __future__ import annotations


def train() -> None:
    """To come."""
