"""Class names from the user's text file, and the `categories` records made from them."""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from sparsevod_core.errors import DataError
from sparsevod_core.prepare.reading.text_file import read_text

_WITH_NUMBER = re.compile(r"([0-9]{1,9})[\s,;=]")
_WITH_ID = re.compile(r"(-?[0-9]{1,9})\s*:\s*(.*)")


def read_class_list(path: Path, *, first_id: int) -> dict[int, str]:
    """Return names by class id from a file with one class per line: `car`, or `3: car`.

    Lines without ids are numbered from `first_id`.

    Raises:
        DataError: The file is unreadable or empty, only some lines have ids, a line between names
            without ids is empty, or a name or id is repeated.
    """
    lines = read_text(path).rstrip().split("\n")
    names: dict[int, str] = {}
    numbered = [(number, line.strip()) for number, line in enumerate(lines, 1) if line.strip()]
    matches = [_WITH_ID.fullmatch(line) for _, line in numbered]
    if any(matches) and not all(matches):
        number, line = numbered[matches.index(None)]
        raise DataError(f"{path}:{number}: {line[:40]!r} has no id, other lines have: `ID: NAME`")
    blank = next((number for number, line in enumerate(lines, 1) if not line.strip()), 0)
    if numbered and blank and not any(matches):
        raise DataError(
            f"{path}:{blank}: an empty line between names, so that the ids of those behind it are "
            "unclear",
            hint="remove the line, or write `ID: NAME` in all lines",
        )
    counts = [int(found[1]) for _, line in numbered if (found := _WITH_NUMBER.match(line))]
    if len(counts) == len(numbered) > 1 and counts in (_from(0, counts), _from(1, counts)):
        raise DataError(
            f"{path}:{numbered[0][0]}: expected `NAME` or `ID: NAME`, got {numbered[0][1][:40]!r}",
            hint="write a colon behind the ids, or leave them out",
        )
    for place, ((number, line), match) in enumerate(zip(numbered, matches, strict=True)):
        class_id, name = (int(match[1]), match[2]) if match else (first_id + place, line)
        if class_id in names:
            raise DataError(f"{path}:{number}: class id {class_id} is repeated")
        names[class_id] = name
    categories_of(names, path)
    return names


def _from(first: int, counts: list[int]) -> list[int]:
    return list(range(first, first + len(counts)))


def categories_of(names: Mapping[int, str], source: Path) -> list[dict[str, Any]]:
    """Return the `categories` records of class names, in the same order.

    Raises:
        DataError: There is no class, or a name is empty or repeated; the place is `source`.
    """
    if not names:
        raise DataError(f"{source}: no class names", hint="give them with --classes FILE")
    ids: dict[str, int] = {}
    for class_id, name in names.items():
        if not name:
            raise DataError(f"{source}: class {class_id} has no name")
        if name in ids:
            raise DataError(f"{source}: classes {ids[name]} and {class_id} are both {name!r}")
        ids[name] = class_id
    return [{"id": class_id, "name": name} for class_id, name in names.items()]


def similar_names(names: Iterable[str]) -> list[str]:
    """Return a remark for each group of names that people would take for one class.

    They differ only in case, in spaces, or in the Unicode form of their characters.
    """
    groups: defaultdict[str, list[str]] = defaultdict(list)
    for name in names:
        key = "".join(unicodedata.normalize("NFKC", name).casefold().split())
        groups[key].append(name)
    return [
        f"classes {' and '.join(map(ascii, group))} are different classes here, but look alike"
        for group in groups.values()
        if len(group) > 1
    ]
