"""Small JSON files that are complete or absent."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from sparsevod_core.errors import DataError
from sparsevod_core.files.kinds import Kind
from sparsevod_core.files.unfinished import write_text


def write_json(path: Path, value: Any, kind: Kind | None = None) -> None:
    """Write a file that appears under its name only when complete; see `write_text`."""
    write_text(path, json.dumps(value, indent=1, allow_nan=False) + "\n", kind)


def read_json(path: Path, hint: str) -> dict[str, Any]:
    """Return the content of a JSON file.

    Raises:
        DataError: The file is missing or broken. `hint` says what to do.
    """
    try:
        content = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        reason = getattr(error, "strerror", None) or error
        raise DataError(f"{path}: cannot be read: {reason}", hint=hint) from error
    if not isinstance(content, dict):
        raise DataError(f"{path}: expected a JSON object", hint=hint)
    return content
