"""What `sparsevod eval` shows on the terminal, from what goes into its JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sparsevod_cli import console

ERRORS = ("correct", "wrong", "missed", "false")
SPEEDS = ("fast", "medium", "slow")
SHOWN = 5  # of the most frequent confusions and the worst videos
MAX_SIDE_BY_SIDE = 6  # results, as columns that fit 80 letters

Result = Mapping[str, Any]


def show_result(result: Result) -> None:
    """One result: by class, by IoU threshold, by speed of the objects, and its errors."""
    errors = result["confusion"]
    columns = ("AP", "AP50", "AP75")
    rows = [["all", *_values(result, columns), f"{result['num_boxes']:,}", *_errors(errors)]]
    rows += [
        [
            name,
            *_values(one, columns),
            f"{one['num_boxes']:,}",
            *_errors(errors["per_class"][name]),
        ]
        for name, one in result["per_class"].items()
    ]
    title = f"{_title(result)}; errors at a score > {errors['score']:g}"
    console.table(title, ["", *columns, "boxes", *ERRORS], rows)
    _by_iou({"AP": result})
    _motion(result)
    _degradation(result)
    recall = ("AR1", "AR10", "AR100")
    console.table("Recall", ["", *recall], [["all", *_values(result, recall)]])
    if errors["top"]:
        rows = [
            [f"{one['true']} as {one['predicted']}", f"{one['count']:,}", f"{one['share']:.1%}"]
            for one in errors["top"][:SHOWN]
        ]
        console.table("Most often confused", ["", "boxes", "of its class"], rows)
    if result["worst_videos"]:
        rows = [
            [one["video"], _number(one["AP50"]), f"{one['num_boxes']:,}", *_errors(one)[1:]]
            for one in result["worst_videos"][:SHOWN]
        ]
        console.table("Worst videos", ["", "AP50", "boxes", *ERRORS[1:]], rows)


def show_results(results: Mapping[str, Result]) -> None:
    """Several results of the same annotations, side by side."""
    columns = ("AP", "AP50", "AP75", "AR100")
    rows = [
        [name, *_values(one, columns), *_speeds(one), f"{one['num_detections']:,}"]
        for name, one in results.items()
    ]
    first = next(iter(results.values()))
    console.table(_title(first), ["", *columns, *SPEEDS, "found"], rows)
    _by_iou(results)
    if len(results) <= MAX_SIDE_BY_SIDE:
        rows = [
            [name, *(_number(one["per_class"][name]["AP"]) for one in results.values())]
            for name in first["per_class"]
        ]
        console.table("AP by class", ["", *results], rows)
    console.table(
        "Detections with a score > 0.3",
        ["", *ERRORS],
        [[name, *_errors(one["confusion"])] for name, one in results.items()],
    )


def _title(result: Result) -> str:
    name = Path(result["annotations"]).name
    return f"{name}: {result['num_frames']:,} frames, {result['num_boxes']:,} boxes"


def _by_iou(results: Mapping[str, Result]) -> None:
    thresholds = list(next(iter(results.values()))["AP_by_iou"])
    if 1 < len(results) <= MAX_SIDE_BY_SIDE:
        rows = [
            [at, *(_number(one["AP_by_iou"][at]) for one in results.values())] for at in thresholds
        ]
        console.table("AP at IoU", ["", *results], rows)
    else:
        rows = [[name, *_values(one["AP_by_iou"], thresholds)] for name, one in results.items()]
        console.table("AP at IoU", ["", *thresholds], rows)


def _motion(result: Result) -> None:
    coco, fgfa = result["motion"]["coco"], result["motion"]["fgfa"]
    if coco is None:
        console.say(f"no AP by speed: {result['motion']['unknown']}")
        return
    columns = ("AP", "AP50", "AP75")
    rows = [
        [speed, *_values(one, columns), *_values(fgfa, [speed]), f"{one['num_boxes']:,}"]
        for speed, one in {"all": result, **{speed: coco[speed] for speed in SPEEDS}}.items()
    ]
    console.table("By speed of the objects", ["", *columns, "AP as FGFA", "boxes"], rows)


def _degradation(result: Result) -> None:
    if result["degraded"] is None:  # as of every real data set
        return
    columns = ("AP", "AP50", "AP75")
    rows = [
        [name, *_values(one, columns), f"{one['num_frames']:,}", f"{one['num_boxes']:,}"]
        for name, one in (("degraded", result["degraded"]), ("clean", result["clean"]))
    ]
    console.table("By what was done to the frame", ["", *columns, "frames", "boxes"], rows)


def _speeds(result: Result) -> list[str]:
    coco = result["motion"]["coco"]
    return [_number(coco[speed]["AP"] if coco else None) for speed in SPEEDS]


def _errors(counts: Result) -> list[str]:
    kinds = ("correct", "wrong_class", "missed", "false_alarms")
    return [f"{counts.get(kind, 0):,}" for kind in kinds]


def _values(numbers: Result, keys: Sequence[str]) -> list[str]:
    return [_number(numbers[key]) for key in keys]


def _number(value: float | None) -> str:
    """A class without boxes has no AP, which is not an AP of 0."""
    return "-" if value is None else f"{value:.3f}"
