"""Version of the package."""

from __future__ import annotations

import tomllib
from functools import cache
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed_version
from pathlib import Path


@cache
def version() -> str:
    """Return the installed version, or `VERSION+source` for a source folder not installed."""
    try:
        return installed_version("sparsevod")
    except PackageNotFoundError:
        pass
    project = Path(__file__).parents[1] / "pyproject.toml"
    try:
        stated = tomllib.loads(project.read_text(encoding="utf-8"))["project"]["version"]
    except (OSError, KeyError, tomllib.TOMLDecodeError):
        return "unknown"
    return f"{stated}+source"
