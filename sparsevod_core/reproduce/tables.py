"""Tables in Markdown, with the paper's results beside the measured ones."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from sparsevod_core.files.kinds import starting
from sparsevod_core.files.unfinished import write_text
from sparsevod_core.reproduce.json_files import write_json
from sparsevod_core.reproduce.results import GROUPS

NOTHING = "-"
MAX_CLASSES = 10  # shown as columns; tables.json has all


def markdown(summary: Mapping[str, Any], about: str) -> str:
    """Return the tables as Markdown, below the heading `about`."""
    parts = [
        f"{about}\n\nAP in percent: {summary['spread']}. Gains are over the frame baseline of "
        "the system, seed by seed. In parentheses: the paper, on ImageNet VID with ResNet-50 "
        "unless the title says otherwise, frames/s on an A100.\n"
    ]
    for table in summary["tables"]:
        parts.append(f"## {table['heading']}\n")
        parts.append(_lines(table["rows"], _main_columns))
        if any(row["groups"][group]["AP50"] for row in table["rows"] for group in GROUPS):
            parts.append("AP50 by frame condition and object speed:\n")
            parts.append(_lines(table["rows"], _group_columns))
        classes = list({name: None for row in table["rows"] for name in row["per_class"]})
        if 1 < len(classes) <= MAX_CLASSES:
            parts.append("AP50 by class:\n")
            parts.append(_lines(table["rows"], partial(_class_columns, classes=classes)))
    return "\n".join(parts)


OWN_TABLES = starting("tables of reproduce", b"# Ablations\n")


def write_tables(summary: Mapping[str, Any], about: str, folder: Path) -> None:
    """Write `tables.md` and `tables.json`."""
    write_json(folder / "tables.json", {"about": about, **summary})
    write_text(folder / "tables.md", markdown(summary, about), OWN_TABLES)


def _main_columns(row: Mapping[str, Any]) -> dict[str, str]:
    paper, seconds = row["paper"], row["train_seconds"]
    return {
        "": row["label"],
        "AP50:95": _text(row["AP"]) + _paper(paper["AP"]),
        "AP50": _text(row["AP50"]) + _paper(paper["AP50"]),
        "AP75": _text(row["AP75"]) + _paper(paper["AP75"]),
        "gain AP50": _text(row["gain"]["AP50"], "+"),
        "gain AP75": _text(row["gain"]["AP75"], "+"),
        "frames/s": (NOTHING if row["fps"] is None else f"{row['fps']:.1f}") + _paper(paper["fps"]),
        "training, min": NOTHING if seconds is None else f"{seconds['mean'] / 60:.1f}",
        "steps": ", ".join(map(str, row["steps"])) or NOTHING,
        "seeds": ", ".join(map(str, row["seeds"])) or NOTHING,
    }


def _group_columns(row: Mapping[str, Any]) -> dict[str, str]:
    return {"": row["label"], **{g: _text(row["groups"][g]["AP50"]) for g in GROUPS}}


def _class_columns(row: Mapping[str, Any], *, classes: Sequence[str]) -> dict[str, str]:
    nothing = {"AP50": None}
    found = {name: _text(row["per_class"].get(name, nothing)["AP50"]) for name in classes}
    return {"": row["label"], **found}


def _lines(
    rows: Sequence[Mapping[str, Any]], columns: Callable[[Mapping[str, Any]], dict[str, str]]
) -> str:
    cells = [columns(row) for row in rows]
    lines = [list(cells[0]), ["---", *["---:"] * (len(cells[0]) - 1)]]
    lines += [list(row.values()) for row in cells]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _text(spread: Mapping[str, Any] | None, sign: str = "") -> str:
    if spread is None:
        return NOTHING
    more = "" if spread["std"] is None else f" ± {spread['std']:.1f}"
    return f"{spread['mean']:{sign}.1f}{more}"


def _paper(value: float | None) -> str:
    return "" if value is None else f" ({value})"
