"""The model that comes with the package: its file, its card, and what results call it."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

NAME = "embedded"


def embedded_checkpoint() -> Path:
    """The file of the weights, for `load_checkpoint` and all that reads one."""
    return _file("sparsevod_tiny.pth")


def embedded_card() -> Path:
    """What the model was trained on, what it is good for and how good it is: Markdown."""
    return _file("MODEL_CARD.md")


def checkpoint_name(path: Path | str) -> str:
    """What results call a checkpoint: its path; the embedded one `embedded` on every machine."""
    return NAME if Path(path) == embedded_checkpoint() else str(path)


def _file(name: str) -> Path:
    return Path(str(resources.files("sparsevod_core") / "weights" / name))
