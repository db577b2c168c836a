"""The model bundled with the package: its checkpoint, its model card, and its name in results."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

NAME = "embedded"


def embedded_checkpoint() -> Path:
    """Return the path of the bundled checkpoint."""
    return _file("sparsevod_lite0.pth")


def embedded_card() -> Path:
    """Return the path of the model card (Markdown): training data, intended use and accuracy."""
    return _file("MODEL_CARD.md")


def checkpoint_name(path: Path | str) -> str:
    """Return the name of a checkpoint in results: its path, or `embedded` for the bundled one."""
    return NAME if Path(path) == embedded_checkpoint() else str(path)


def _file(name: str) -> Path:
    return Path(str(resources.files("sparsevod_core") / "weights" / name))
