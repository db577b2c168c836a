"""Renaming of weights by a table of patterns."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from torch import Tensor

NameTable: TypeAlias = Mapping[str, str]
"""Our name of each of their names. `*` is a number, the same on both sides. A name that ends in a
dot is a module, whose tensors keep their last name; any other name is one tensor."""


@dataclass(frozen=True, slots=True)
class Renamed:
    """Weights under our names.

    Attributes:
        state: the input tensors (not copies) by our names.
        unknown: input names that are not in the table, in input order.
    """

    state: dict[str, Tensor]
    unknown: list[str]


def renamed(state: Mapping[str, Tensor], table: NameTable) -> Renamed:
    """Rename weights; those that the table lacks are left out and named."""
    found: dict[str, Tensor] = {}
    unknown: list[str] = []
    for (name, value), ours in zip(state.items(), new_names(state, table), strict=True):
        if ours is None:
            unknown.append(name)
        else:
            found[ours] = value
    return Renamed(found, unknown)


def new_names(names: Iterable[str], table: NameTable) -> list[str | None]:
    """Return the new name of each name, None where the table has none."""
    patterns = [(_pattern(old), new) for old, new in table.items()]
    return [_new_name(name, patterns) for name in names]


def _new_name(name: str, patterns: Iterable[tuple[re.Pattern[str], str]]) -> str | None:
    for pattern, new in patterns:
        match = pattern.fullmatch(name)
        if match:
            return _filled(new, match)
    return None


def _pattern(old: str) -> re.Pattern[str]:
    text = re.escape(old).replace(r"\*", r"(\d+)")
    return re.compile(text + r"(?P<tensor>\w+)" if old.endswith(".") else text)


def _filled(new: str, match: re.Match[str]) -> str:
    tensor = match.groupdict().get("tensor", "")
    for number in match.groups()[: new.count("*")]:
        new = new.replace("*", number, 1)
    return new + tensor
