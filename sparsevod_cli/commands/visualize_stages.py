"""`sparsevod visualize-stages`."""

from __future__ import annotations


def visualize_stages() -> None:
    """To come."""
