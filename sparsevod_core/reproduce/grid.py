"""The paper's tables as settings: models to train, and table rows that show them.

Table rows with equal settings share one cell, which is trained once per seed.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field

from sparsevod_core.config import Config, System
from sparsevod_core.errors import ConfigError
from sparsevod_core.reporting import counted

TEST_SUPPORTS = (0, 1, 2, 4, 6, 10, 14)
"""Table 5: numbers of support frames to evaluate a model with, without training it again."""

FIGURE_5_SUPPORTS = (2, 6, 14)
"""Fig. 5: the same, for each of its systems."""


@dataclass(frozen=True, slots=True)
class Cell:
    """A model to train.

    Attributes:
        name: Name of its folder.
        settings: Differences from the system's preset, as `--set` takes them.
        system: Video object detector.
    """

    name: str
    settings: tuple[str, ...] = ()
    system: System = "sparsevod"


FULL = Cell("full")
BASELINE = Cell("baseline", ("model.tfe=off", "model.spfa=off"))
TFE = Cell("tfe", ("model.spfa=off",))
SPFA = Cell("spfa", ("model.tfe=off",))
AVERAGE = Cell("average", ("model.tfe=average", "model.spfa=average"))
AVERAGE_TFE = Cell("average-tfe", ("model.tfe=average",))
AVERAGE_SPFA = Cell("average-spfa", ("model.spfa=average",))
SELSA = Cell("selsa", system="selsa")
TROI = Cell("troi", system="troi")
MAMBA = Cell("mamba", system="mamba")
FGFA = Cell("fgfa", system="fgfa")
FASTER_RCNN = Cell("faster-rcnn", ("model.temporal=false",), "selsa")
MEGA = Cell("mega", system="mega")
FASTER_RCNN_C4 = Cell("faster-rcnn-c4", ("model.temporal=false",), "mega")
TRANSVOD = Cell("transvod", system="transvod")
DEFORMABLE_DETR = Cell("deformable-detr", ("model.temporal=false", "train.trained=all"), "transvod")


@dataclass(frozen=True, slots=True)
class Start:
    """The single-frame detector that all models of some systems can start from.

    Attributes:
        cell: Detector to train.
        recipe: Settings of its training in the paper of the system, whose models always start from
            it. Empty: in the paper, they start from ImageNet weights.
    """

    cell: Cell
    recipe: tuple[str, ...] = ()


_OF_FASTER_RCNN = Start(FASTER_RCNN)
STARTS: dict[System, Start] = {
    "sparsevod": Start(BASELINE),
    "selsa": _OF_FASTER_RCNN,
    "troi": _OF_FASTER_RCNN,
    "mamba": _OF_FASTER_RCNN,
    "fgfa": _OF_FASTER_RCNN,
    "mega": Start(FASTER_RCNN_C4),
    "transvod": Start(
        DEFORMABLE_DETR, ("train.clips_per_gpu=4", "train.epochs=8", "train.milestones=[6,7]")
    ),
}
START_NAMES = tuple(dict.fromkeys(start.cell.name for start in STARTS.values()))


@dataclass(frozen=True, slots=True)
class Paper:
    """The paper's results on ImageNet VID: percent, and frames/s on an A100.

    With ResNet-50, except in a Table 1 of another backbone.
    """

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

    @property
    def base(self) -> Cell:
        """Frame detector of its system, over which the row gains."""
        return STARTS[self.cell.system].cell


@dataclass(frozen=True, slots=True)
class Table:
    """A table of the paper, or the rows of a figure.

    Attributes:
        number: Number by which it is chosen.
        title: Text after the number in its heading.
        rows: Rows.
        figure: Number of the figure that shows the rows, for rows that are in no table.
    """

    number: int
    title: str
    rows: tuple[Row, ...]
    figure: int | None = None

    @property
    def heading(self) -> str:
        """Heading: what the paper calls it, and the title."""
        name = f"Table {self.number}" if self.figure is None else f"Fig. {self.figure}"
        return f"{name}: {self.title}"


_BASELINE = Paper(48.7, 71.1, 52.4, 24.3)
_FULL = Paper(54.7, 80.3, 60.1, 14.4)
_FULL_2 = Paper(AP50=79.0, fps=17.7)
TROI_14 = Paper(AP50=78.8, fps=7.5)
"""TROI with 14 support frames, the comparison in the paper's Fig. 5."""

_TABLE_1 = {
    "ResNet-50": {
        "baseline": _BASELINE,
        "full": _FULL,
        "fgfa": Paper(47.1, 74.7, 52.0),
        "selsa": Paper(48.6, 78.4, 52.5),
        "troi": Paper(48.8, 78.9, 52.8),
        "mega": Paper(48.1, 77.3, 52.2),
        "transvod": Paper(AP50=79.9),
    },
    "ResNet-101": {
        "baseline": Paper(51.7, 74.6, 53.9),
        "full": Paper(56.9, 81.9, 63.1),
        "fgfa": Paper(50.4, 78.1, 56.7),
        "selsa": Paper(52.4, 81.5, 57.9),
        "troi": Paper(51.6, 82.6, 56.3),
        "mamba": Paper(AP50=84.6),
        "mega": Paper(53.1, 82.9, 59.1),
        "transvod": Paper(AP50=81.9),
    },
    "ResNeXt-101": {
        "baseline": Paper(53.3, 76.6, 57.9),
        "full": Paper(58.0, 83.1, 64.3),
        "fgfa": Paper(52.5, 79.6, 59.8),
        "selsa": Paper(54.2, 83.1, 61.3),
        "troi": Paper(54.4, 84.3, 60.9),
        "mega": Paper(AP50=84.1),
    },
}
"""The paper's Table 1 by backbone and cell."""


def tables(
    config: Callable[[Cell], Config], numbers: Collection[int] = (2, 3, 4, 5)
) -> list[Table]:
    """Return the tables `numbers`, and with Table 1 the rows of Fig. 5.

    Args:
        config: Returns the settings of a cell.
        numbers: Numbers of tables.

    Raises:
        ConfigError: There is no such table.
    """
    makers: dict[int, Callable[[], tuple[Table, ...]]] = {
        1: lambda: (_table_1(config), _figure_5(config)),
        2: lambda: (_table_2(),),
        3: lambda: (_table_3(config(FULL).model.num_stages),),
        4: lambda: (_table_4(),),
        5: lambda: (_table_5(config(FULL)),),
    }
    for number in numbers:
        if number not in makers:
            known = ", ".join(map(str, makers))
            raise ConfigError(f"table {number}: expected some of {known}")
    # Only the chosen ones are made: not every backbone is a preset of the systems of Table 1.
    return [table for number, make in makers.items() if number in numbers for table in make()]


def cells(chosen: Iterable[Table]) -> list[Cell]:
    """Return the models that the tables show, each once."""
    return list(dict.fromkeys(row.cell for table in chosen for row in table.rows))


def support_counts(chosen: Iterable[Table], cell: Cell) -> list[int]:
    """Return the numbers of support frames in a cell's rows, besides the configured one."""
    rows = [row for table in chosen for row in table.rows if row.cell == cell]
    return sorted({row.supports for row in rows if row.supports is not None})


def _table_1(config: Callable[[Cell], Config]) -> Table:
    backbone = _family(config(FULL).model.backbone)
    paper = _TABLE_1[backbone]
    flow = "" if config(FGFA).model.fgfa.flow != "none" else " without flow"
    labels = {
        "Sparse R-CNN (frame baseline)": BASELINE,
        "SparseVOD": FULL,
        "Faster R-CNN DC5 (frame baseline)": FASTER_RCNN,
        f"FGFA{flow}": FGFA,
        "SELSA": SELSA,
        "TROI": TROI,
        "MAMBA": MAMBA,
        "Faster R-CNN C4 (frame baseline)": FASTER_RCNN_C4,
        "MEGA": MEGA,
        "TransVOD": TRANSVOD,
    }
    rows = (Row(label, cell, paper=paper.get(cell.name, Paper())) for label, cell in labels.items())
    return Table(1, f"Video object detectors (the paper: {backbone})", tuple(rows))


def _family(backbone: str) -> str:
    """Return the backbone of the paper to compare with."""
    if backbone.startswith("x101"):
        return "ResNeXt-101"
    return "ResNet-101" if backbone == "r101" else "ResNet-50"


def _figure_5(config: Callable[[Cell], Config]) -> Table:
    papers = {(FULL, 2): _FULL_2, (FULL, 6): _FULL, (TROI, 14): TROI_14}
    rows = (
        Row(
            f"{name}, {count} supports",
            cell,
            supports=None if count == usual else count,
            paper=papers.get((cell, count), Paper()),
        )
        for name, cell in {"SparseVOD": FULL, "TROI": TROI}.items()
        for usual in [config(cell).inference.supports]
        for count in sorted({*FIGURE_5_SUPPORTS, usual})
    )
    return Table(1, "Support frames at test time and speed", tuple(rows), figure=5)


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
    papers = {2: _FULL_2, 6: _FULL}
    usual = config.inference.supports
    rows = (
        Row(
            counted(count, "support"),
            FULL,
            supports=None if count == usual else count,
            paper=papers.get(count, Paper()),
        )
        for count in sorted({*TEST_SUPPORTS, usual})
    )
    return Table(5, "Support frames at test time, one model", tuple(rows))
