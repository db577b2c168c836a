"""A class of objects. Apart from the other structures, since converting labels needs no torch."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Category:
    """A class: the user's own id and its name. The model's label is its position in the list."""

    id: int
    name: str
