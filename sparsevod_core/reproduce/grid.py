"""The paper's ablations as settings: models to train, and table rows that show them.

Table rows with equal settings share one cell, which is trained once per seed.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

from sparsevod_core.config import Config
from sparsevod_core.errors import ConfigError

TEST_SUPPORTS = (0, 2, 6, 14)
"""Numbers of support frames to evaluate the full model with, without training it again."""


@dataclass(frozen=True, slots=True)
class Cell:
    """A model to train.

    Attributes:
        name: Name of its folder.
        settings: Differences from the full model, as `--set` takes them.
    """

    name: str
    settings: tuple[str, ...] = ()


FULL = Cell("full")
BASELINE = Cell("baseline", ("model.tfe=off", "model.spfa=off"))
TFE = Cell("tfe", ("model.spfa=off",))
SPFA = Cell("spfa", ("model.tfe=off",))
AVERAGE = Cell("average", ("model.tfe=average", "model.spfa=average"))
AVERAGE_TFE = Cell("average-tfe", ("model.tfe=average",))
AVERAGE_SPFA = Cell("average-spfa", ("model.spfa=average",))


@dataclass(frozen=True, slots=True)
class Paper:
    """The paper's results on ImageNet VID with ResNet-50: percent, and frames/s on an A100."""

    AP: float | None = None
    AP50: float | None = None
    AP75: float | None = None
    fps: float | None = None


@dataclass(frozen=True, slots=True)
class Row:
    """A row of a table.

    Attributes:
        label: Text in the first column.
        cell: Model.
        supports: Number of support frames at test time; None means as configured.
        paper: The paper's results, empty if it does not have this row.
    """

    label: str
    cell: Cell
    supports: int | None = None
    paper: Paper = field(default_factory=Paper)


@dataclass(frozen=True, slots=True)
class Table:
    """A table of the paper. Gains are relative to its first row."""

    number: int
    title: str
    rows: tuple[Row, ...]


_BASELINE = Paper(48.7, 71.1, 52.4, 24.3)
_FULL = Paper(54.7, 80.3, 60.1, 14.4)

TROI = Paper(AP50=78.8, fps=7.5)
"""Temporal RoI Align with 14 support frames, the comparison in the paper's Fig. 5."""


def tables(config: Config, numbers: Collection[int] = (2, 3, 4, 5)) -> list[Table]:
    """Return the tables `numbers` for the full model that `config` describes.

    Raises:
        ConfigError: There is no such table.
    """
    every = (_table_2(), _table_3(config.model.num_stages), _table_4(), _table_5(config))
    by_number = {table.number: table for table in every}
    for number in numbers:
        if number not in by_number:
            raise ConfigError(f"table {number}: expected some of {', '.join(map(str, by_number))}")
    return [table for table in every if table.number in numbers]


def cells(chosen: Iterable[Table]) -> list[Cell]:
    """Return the models that the tables show, each once."""
    return list(dict.fromkeys(row.cell for table in chosen for row in table.rows))


def support_counts(chosen: Iterable[Table], cell: Cell) -> list[int]:
    """Return the numbers of support frames in a cell's rows, besides the configured one."""
    rows = [row for table in chosen for row in table.rows if row.cell == cell]
    return sorted({row.supports for row in rows if row.supports is not None})


def _table_2() -> Table:
    rows = (
        Row("frame baseline", BASELINE, paper=_BASELINE),
        Row("+ TFE", TFE, paper=Paper(52.1, 76.9, 57.5, 14.9)),
        Row("+ SPFA", SPFA, paper=Paper(54.1, 79.1, 59.0, 17.7)),
        Row("+ TFE + SPFA", FULL, paper=_FULL),
    )
    return Table(2, "TFE and SPFA", rows)


def _table_3(num_stages: int) -> Table:
    papers = {1: Paper(AP50=60.0, AP75=27.2), 3: Paper(AP50=78.0, AP75=58.3), 6: _FULL}
    counts = dict.fromkeys((1, (num_stages + 1) // 2, num_stages))
    rows = (
        Row(
            f"{count} stage{'s' if count > 1 else ''}",
            FULL
            if count == num_stages
            else Cell(f"stages-{count}", (f"model.num_stages={count}",)),
            paper=papers.get(count, Paper()),
        )
        for count in counts
    )
    return Table(3, "Number of stages", tuple(rows))


def _table_4() -> Table:
    rows = (
        Row("frame baseline", BASELINE, paper=_BASELINE),
        Row("TFE average, SPFA average", AVERAGE, paper=Paper(49.1, 75.8, 52.9, 18.5)),
        Row("TFE average, SPFA attention", AVERAGE_TFE, paper=Paper(54.1, 79.4, 58.9, 16.3)),
        Row("TFE attention, SPFA average", AVERAGE_SPFA, paper=Paper(52.1, 78.5, 58.1, 14.9)),
        Row("TFE attention, SPFA attention", FULL, paper=_FULL),
    )
    return Table(4, "Attention or average", rows)


def _table_5(config: Config) -> Table:
    papers = {2: Paper(AP50=79.0, fps=17.7), 6: _FULL}
    usual = config.inference.supports
    rows = (
        Row(
            f"{count} supports",
            FULL,
            supports=None if count == usual else count,
            paper=papers.get(count, Paper()),
        )
        for count in sorted({*TEST_SUPPORTS, usual})
    )
    return Table(5, "Support frames at test time, one model", tuple(rows))
