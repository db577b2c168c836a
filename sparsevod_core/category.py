"""A class of objects, usable without torch."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Category:
    """A class with its id and name in the annotations; its label is its position in the list."""

    id: int
    name: str
