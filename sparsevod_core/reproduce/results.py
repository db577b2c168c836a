"""Results of the runs: mean and spread over the seeds, gains seed by seed."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from itertools import product
from pathlib import Path
from typing import Any

from sparsevod_core.errors import DataError
from sparsevod_core.reproduce.experiment import Experiment
from sparsevod_core.reproduce.grid import Row, Table, cells, support_counts
from sparsevod_core.reproduce.json_files import read_json

SPREAD = "mean ± standard deviation over the seeds (n - 1); no ± where there is one seed"
GROUPS = ("degraded", "clean", "fast", "medium", "slow")
METRICS = ("AP", "AP50", "AP75")
AGAIN = "remove it: the next run creates it again"

Results = Mapping[tuple[str, int | None, int], dict[str, Any]]
"""Evaluations by cell, number of support frames (None: as configured) and seed."""


def load_results(experiment: Experiment, chosen: Sequence[Table], seeds: Sequence[int]) -> Results:
    """Return all finished evaluations that the tables show or compare with.

    Raises:
        DataError: A file is broken, or runs were evaluated on different videos.
    """
    results: dict[tuple[str, int | None, int], dict[str, Any]] = {}
    scored_on: dict[tuple[int, int], Path] = {}
    bases = [row.base for table in chosen for row in table.rows]
    for cell, seed in product(dict.fromkeys([*cells(chosen), *bases]), seeds):
        if experiment.state(cell, seed) != "done":
            continue
        training = _training(experiment.folder(cell, seed) / "metrics.jsonl")
        for supports in (None, *support_counts(chosen, cell)):
            file = experiment.result_file(cell, seed, supports)
            if file.exists():
                result = read_json(file, AGAIN) | {"training": training}
                results[cell.name, supports, seed] = result
                scored_on.setdefault((result["num_frames"], result["num_boxes"]), file)
    if len(scored_on) > 1:
        raise DataError(
            "these runs were not scored on the same videos: "
            + ", ".join(f"{file} ({f} frames, {b} boxes)" for (f, b), file in scored_on.items())
        )
    return results


def summarize(
    chosen: Sequence[Table], results: Results, seeds: Sequence[int], fps: Mapping[str, float]
) -> dict[str, Any]:
    """Return the content of the tables for JSON: AP in percent as in the paper, time in seconds.

    Args:
        chosen: Tables to fill.
        results: Finished evaluations. A row without results stays empty.
        seeds: Seeds to include, in this order.
        fps: Frames per second by `speed_key`.
    """
    return {
        "schema": "sparsevod.reproduce/1",
        "spread": SPREAD,
        "tables": [
            {
                "number": table.number,
                "figure": table.figure,
                "title": table.title,
                "heading": table.heading,
                "rows": [_summary(row, results, seeds, fps) for row in table.rows],
            }
            for table in chosen
        ],
    }


def speed_key(row: Row) -> str:
    """Return the key under which the speed of a row is saved."""
    return row.cell.name if row.supports is None else f"{row.cell.name}, {row.supports} supports"


def saved_speed(file: Path) -> dict[str, float]:
    """Return the saved frames per second by `speed_key`; empty if there is no file."""
    return read_json(file, AGAIN)["fps"] if file.exists() else {}


def _summary(
    row: Row, results: Results, seeds: Sequence[int], fps: Mapping[str, float]
) -> dict[str, Any]:
    own = {seed: of for seed in seeds if (of := results.get((row.cell.name, row.supports, seed)))}
    bases = {seed: of for seed in own if (of := results.get((row.base.name, None, seed)))}
    return {
        "label": row.label,
        "cell": row.cell.name,
        "system": row.cell.system,
        "settings": list(row.cell.settings),
        "supports": row.supports,
        "seeds": list(own),
        **{metric: _spread([of[metric] for of in own.values()], 100) for metric in METRICS},
        # Seed by seed: both runs drew the same random numbers and saw the same clips.
        "gain": {
            metric: _spread([_gain(own[s][metric], bases[s][metric]) for s in bases], 100)
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
    """Return None if there are no values, or if one of them is undefined."""
    known = [unit * value for value in values if value is not None]
    if not known or len(known) < len(values):
        return None
    return {
        "mean": statistics.fmean(known),
        "std": statistics.stdev(known) if len(known) > 1 else None,
        "min": min(known),
        "max": max(known),
    }


def _gain(value: float | None, base: float | None) -> float | None:
    return None if value is None or base is None else value - base


def _of_group(result: dict[str, Any], group: str, metric: str) -> float | None:
    groups = {
        "degraded": result["degraded"],
        "clean": result["clean"],
        **(result["motion"]["coco"] or {}),
    }
    numbers = groups.get(group)
    return None if numbers is None else numbers[metric]


def _training(metrics: Path) -> dict[str, Any]:
    """Return the number of steps and seconds of a run."""
    try:
        lines = metrics.read_text("utf-8").splitlines()
        records = [record for record in map(json.loads, lines) if record["kind"] == "train"]
        return {"step": records[-1]["step"], "seconds": records[-1]["seconds"]}
    except OSError as error:
        raise DataError(f"{metrics}: cannot be read: {error.strerror}") from error
    except (ValueError, LookupError, TypeError, RecursionError) as error:
        raise DataError(f"{metrics}: expected the metrics of a finished run: {error!r}") from error
