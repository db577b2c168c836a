"""What the runs came to: mean and spread over the seeds, gains seed by seed."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from itertools import product
from pathlib import Path
from typing import Any

from grid import Row, Table, cells, test_supports
from runs import Experiment, read_json

from sparsevod_core.errors import DataError

SPREAD = "mean ± standard deviation over the seeds (n - 1); no ± where there is one seed"
GROUPS = ("degraded", "clean", "fast", "medium", "slow")
METRICS = ("AP", "AP50", "AP75")

Results = Mapping[tuple[str, int | None, int], dict[str, Any]]
"""What was evaluated, by cell, number of supports (None: the usual) and seed."""


def load_results(experiment: Experiment, chosen: Sequence[Table], seeds: Sequence[int]) -> Results:
    """Everything that is there for these tables.

    Raises:
        DataError: a broken file, or runs that were not evaluated on the same videos.
    """
    results: dict[tuple[str, int | None, int], dict[str, Any]] = {}
    scored_on: dict[tuple[int, int], Path] = {}
    for cell, seed in product(cells(chosen), seeds):
        if experiment.state(cell, seed) != "done":
            continue
        training = _training(experiment.folder(cell, seed) / "metrics.jsonl")
        for supports in (None, *test_supports(chosen, cell)):
            file = experiment.result_file(cell, seed, supports)
            if file.exists():
                result = read_json(file) | {"training": training}
                results[cell.name, supports, seed] = result
                scored_on.setdefault((result["num_frames"], result["num_boxes"]), file)
    if len(scored_on) > 1:
        raise DataError(
            "these were not scored on the same videos: "
            + ", ".join(f"{file} ({f} frames, {b} boxes)" for (f, b), file in scored_on.items())
        )
    return results


def summarise(
    chosen: Sequence[Table], results: Results, seeds: Sequence[int], fps: Mapping[str, float]
) -> dict[str, Any]:
    """All numbers of the tables, for JSON: AP in percent as in the paper, time in seconds.

    Args:
        chosen: the tables.
        results: what is there; a row without results is empty.
        seeds: in this order.
        fps: frames per second by `speed_key`.
    """
    return {
        "schema": "sparsevod.reproduce/1",
        "spread": SPREAD,
        "tables": [
            {
                "number": table.number,
                "title": table.title,
                "rows": [_summary(row, table.rows[0], results, seeds, fps) for row in table.rows],
            }
            for table in chosen
        ],
    }


def speed_key(row: Row) -> str:
    """What a row's speed goes by."""
    return row.cell.name if row.supports is None else f"{row.cell.name}, {row.supports} supports"


def saved_speed(file: Path) -> dict[str, float]:
    """What was measured before; nothing where there is no file."""
    return read_json(file)["fps"] if file.exists() else {}


def _summary(
    row: Row, first: Row, results: Results, seeds: Sequence[int], fps: Mapping[str, float]
) -> dict[str, Any]:
    own = {seed: of for seed in seeds if (of := results.get((row.cell.name, row.supports, seed)))}
    base = {s: of for s in own if (of := results.get((first.cell.name, first.supports, s)))}
    return {
        "label": row.label,
        "cell": row.cell.name,
        "settings": list(row.cell.settings),
        "supports": row.supports,
        "seeds": list(own),
        **{metric: _spread([of[metric] for of in own.values()], 100) for metric in METRICS},
        # Seed by seed: both began with the same numbers and saw the same clips.
        "gain": {
            metric: _spread([own[s][metric] - base[s][metric] for s in base], 100)
            for metric in METRICS
        },
        "groups": {
            group: {
                metric: _spread([_of_group(of, group, metric) for of in own.values()], 100)
                for metric in METRICS
            }
            for group in GROUPS
        },
        "per_class": {
            name: {
                metric: _spread([of["per_class"][name][metric] for of in own.values()], 100)
                for metric in METRICS
            }
            for name in next(iter(own.values()), {"per_class": {}})["per_class"]
        },
        "AP_by_iou": {
            iou: _spread([of["AP_by_iou"][iou] for of in own.values()], 100)
            for iou in next(iter(own.values()), {"AP_by_iou": {}})["AP_by_iou"]
        },
        "fps": fps.get(speed_key(row)),
        "train_seconds": _spread([of["training"]["seconds"] for of in own.values()]),
        "steps": sorted({of["training"]["step"] for of in own.values()}),
        "paper": asdict(row.paper),
    }


def _spread(values: Sequence[float | None], unit: float = 1) -> dict[str, Any] | None:
    """None where nothing was measured, or one of the values does not exist."""
    known = [unit * value for value in values if value is not None]
    if not known or len(known) < len(values):
        return None
    return {
        "mean": statistics.fmean(known),
        "std": statistics.stdev(known) if len(known) > 1 else None,
        "min": min(known),
        "max": max(known),
    }


def _of_group(result: dict[str, Any], group: str, metric: str) -> float | None:
    groups = {
        "degraded": result["degraded"],
        "clean": result["clean"],
        **(result["motion"]["coco"] or {}),
    }
    numbers = groups.get(group)
    return None if numbers is None else numbers[metric]


def _training(metrics: Path) -> dict[str, Any]:
    """Steps and seconds of a run."""
    try:
        lines = metrics.read_text("utf-8").splitlines()
    except OSError as error:
        raise DataError(f"{metrics}: cannot read it: {error.strerror}") from error
    records = [record for record in map(json.loads, lines) if record["kind"] == "train"]
    return {"step": records[-1]["step"], "seconds": records[-1]["seconds"]}
