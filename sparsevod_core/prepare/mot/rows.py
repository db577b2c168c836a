"""Lines of a MOT text file as numbers, and what values each column has in the whole file."""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sparsevod_core.errors import DataError
from sparsevod_core.prepare.reading.text_file import open_lines

NUM_BOX_COLUMNS = 6
"""Number of leading columns that all files share: frame, id, left, top, width, height."""
_CHUNK_ROWS = 4096
_MAX_FLAGS = 4096  # classes and flags are less
_MAX_HEADER = 1000
_TAIL = slice(NUM_BOX_COLUMNS, NUM_BOX_COLUMNS + 4)
NO_FLAG = -_MAX_FLAGS
"""Stands for a value that is no small integer in `Survey.tails`."""


@dataclass(slots=True)
class Values:
    """Values in rows that have the same number of columns.

    Attributes:
        low, high: Least and greatest value of each column.
        is_whole: Whether all values of a column are integers.
        tails: Distinct values of columns 7 to 10 together, with `NO_FLAG` for what is no integer.
    """

    low: np.ndarray
    high: np.ndarray
    is_whole: np.ndarray
    tails: set[tuple[int, ...]]

    @classmethod
    def of(cls, rows: list[list[float]]) -> Values:
        values = np.array(rows)
        is_whole = values == np.floor(values)
        tails = np.where(is_whole & (np.abs(values) < _MAX_FLAGS), values, NO_FLAG)[:, _TAIL]
        distinct = np.unique(tails.astype(int), axis=0).tolist()
        return cls(
            values.min(axis=0), values.max(axis=0), is_whole.all(axis=0), set(map(tuple, distinct))
        )

    @property
    def num_columns(self) -> int:
        return len(self.low)

    def together_with(self, other: Values) -> Values:
        """Return the values of these rows and of others with as many columns."""
        return Values(
            np.minimum(self.low, other.low),
            np.maximum(self.high, other.high),
            self.is_whole & other.is_whole,
            self.tails if len(self.tails) > _MAX_FLAGS else self.tails | other.tails,
        )


@dataclass(frozen=True, slots=True)
class Survey:
    """What a file holds.

    Attributes:
        header: Names of columns in the first line, without other characters than a-z and 0-9; empty
            if it holds numbers.
        values: Values in the rows that have as many columns as most; None without a row.
    """

    path: Path
    header: list[str]
    values: Values | None

    @property
    def frames(self) -> tuple[int, int]:
        """First and last frame with a box; the last is less than the first if there is none."""
        values = self.values
        return (0, -1) if values is None else (int(values.low[0]), int(values.high[0]))


def read_rows(path: Path) -> Iterator[tuple[int, list[float] | str]]:
    """Yield the line number and the values, or the problem, of each line that is not blank.

    Raises:
        DataError: The file cannot be read.
    """
    try:
        with open_lines(path) as lines:
            for number, line in enumerate(lines, start=1):
                if text := line.strip():
                    yield number, _values(text)
    except OSError as error:
        raise DataError(f"{path}: cannot read the ground truth: {error.strerror}") from error


def split_line(text: str) -> list[str]:
    """Return the words of a line, which commas, semicolons, tabs or spaces separate."""
    if ";" in text:  # where a comma is the decimal point
        words = text.replace(",", ".").split(";")
    else:
        words = text.split(",") if "," in text else text.split()
    while words and not words[-1].strip():
        words.pop()
    return words


def _values(text: str) -> list[float] | str:
    words = split_line(text)
    try:
        values = list(map(float, words))
    except ValueError:
        return f"expected numbers between commas, got {text[:60]!r}"
    if not all(map(math.isfinite, values)):
        return f"expected finite numbers, got {text[:60]!r}"
    return values


def survey(path: Path) -> Survey:
    """Read a file once, to see what its columns hold.

    Raises:
        DataError: The file cannot be read.
    """
    found: dict[int, Values] = {}
    num_rows: Counter[int] = Counter()
    chunks: defaultdict[int, list[list[float]]] = defaultdict(list)

    def add(count: int) -> None:
        values = Values.of(chunks.pop(count))
        found[count] = values.together_with(found[count]) if count in found else values

    for _, row in read_rows(path):
        if isinstance(row, list) and len(row) >= NUM_BOX_COLUMNS:
            count = len(row)
            num_rows[count] += 1
            chunks[count].append(row)
            if len(chunks[count]) == _CHUNK_ROWS:
                add(count)
    for count in list(chunks):
        add(count)
    most = max(num_rows, key=lambda count: num_rows[count], default=0)
    return Survey(path, _header(path), found.get(most))


def _header(path: Path) -> list[str]:
    """Return the words of the first line that is not blank, if one of them is `frame` or alike."""
    try:
        with open_lines(path) as lines:
            first = next((line.strip() for line in lines if line.strip()), "")
    except OSError:  # reported by the reader of the rows
        return []
    words = [re.sub("[^a-z0-9]", "", word.lower()) for word in split_line(first[:_MAX_HEADER])]
    return words if any(word.startswith("frame") for word in words) else []
