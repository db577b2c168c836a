"""Tables that `sparsevod eval` prints.

Every value comes from `Evaluation.to_dict` in sparsevod_core/evaluation/score.py, the content of
the JSON. To add a column, add its value there, computed in evaluation/metrics/, then show it here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sparsevod_cli import console
from sparsevod_core.reporting import some_of

AP_COLUMNS = ("AP", "AP50", "AP75")
ERRORS = ("correct", "wrong", "missed", "false")
SPEEDS = ("fast", "medium", "slow")
MAX_ROWS = 5  # of the most frequent confusions and the worst videos
MAX_SIDE_BY_SIDE = 6  # results whose columns fit in 80 characters

Result = Mapping[str, Any]


def show_result(result: Result) -> None:
    """Print one result: by class, IoU threshold, speed and condition, and its errors."""
    confusion = result["confusion"]
    parts = [("all", result, confusion)]
    parts += [(n, one, confusion["per_class"][n]) for n, one in result["per_class"].items()]
    rows = [
        [name, *_values(one), f"{one['num_boxes']:,}", *_errors(errors)]
        for name, one, errors in parts
    ]
    title = f"{_title(result)}; errors at a score > {confusion['score']:g}"
    console.table(title, ["", *AP_COLUMNS, "boxes", *ERRORS], rows)
    _classes_without_boxes(result)
    _by_iou({"AP": result})
    _by_speed(result)
    _by_condition(result)
    recall = ("AR1", "AR10", "AR100")
    console.table("Recall", ["", *recall], [["all", *_values(result, recall)]])
    if confusion["top"]:
        rows = [
            [f"{one['true']} as {one['predicted']}", f"{one['count']:,}", f"{one['share']:.1%}"]
            for one in confusion["top"][:MAX_ROWS]
        ]
        console.table("Most often confused", ["", "boxes", "share of class"], rows)
    if result["worst_videos"]:
        rows = [
            [one["video"], _number(one["AP50"]), f"{one['num_boxes']:,}", *_errors(one)[1:]]
            for one in result["worst_videos"][:MAX_ROWS]
        ]
        console.table("Worst videos", ["", "AP50", "boxes", *ERRORS[1:]], rows)


def show_results(results: Mapping[str, Result]) -> None:
    """Print several results on the same annotations side by side."""
    columns = (*AP_COLUMNS, "AR100")
    rows = [
        [name, *_values(one, columns), *_speeds(one), f"{one['num_detections']:,}"]
        for name, one in results.items()
    ]
    first = next(iter(results.values()))
    console.table(_title(first), ["", *columns, *SPEEDS, "detections"], rows)
    _classes_without_boxes(first)
    _by_iou(results)
    if len(results) <= MAX_SIDE_BY_SIDE:
        rows = [
            [name, *(_number(one["per_class"][name]["AP"]) for one in results.values())]
            for name in first["per_class"]
        ]
        console.table("AP by class", ["", *results], rows)
    console.table(
        f"Detections with a score > {first['confusion']['score']:g}",
        ["", *ERRORS],
        [[name, *_errors(one["confusion"])] for name, one in results.items()],
    )


def _title(result: Result) -> str:
    name = Path(result["annotations"]).name
    return f"{name}: {result['num_frames']:,} frames, {result['num_boxes']:,} boxes"


def _classes_without_boxes(result: Result) -> None:
    missing, num_classes = result["classes_without_boxes"], len(result["per_class"])
    if len(missing) == num_classes:
        console.say("AP is undefined: there are no boxes to find (crowds do not count)")
    elif missing:
        console.say(
            f"AP is the mean over {num_classes - len(missing)} of {num_classes} classes; without "
            f"boxes: {some_of(missing)}"
        )


def _by_iou(results: Mapping[str, Result]) -> None:
    thresholds = list(next(iter(results.values()))["AP_by_iou"])
    if 1 < len(results) <= MAX_SIDE_BY_SIDE:
        rows = [
            [at, *(_number(one["AP_by_iou"][at]) for one in results.values())] for at in thresholds
        ]
        console.table("AP by IoU threshold", ["", *results], rows)
    else:
        rows = [[name, *_values(one["AP_by_iou"], thresholds)] for name, one in results.items()]
        console.table("AP by IoU threshold", ["", *thresholds], rows)


def _by_speed(result: Result) -> None:
    coco, fgfa = result["motion"]["coco"], result["motion"]["fgfa"]
    if coco is None:
        console.say(f"no AP by speed: {result['motion']['unknown']}")
        return
    rows = [
        [speed, *_values(one), *_values(fgfa, [speed]), f"{one['num_boxes']:,}"]
        for speed, one in {"all": result, **{speed: coco[speed] for speed in SPEEDS}}.items()
    ]
    if num_unknown := result["motion"].get("num_unknown"):
        rows.append(["unknown", *["-"] * (len(AP_COLUMNS) + 1), f"{num_unknown:,}"])
    columns = ["", *AP_COLUMNS, "AP (FGFA)", "boxes"]
    console.table("By speed of the objects", columns, rows)


def _by_condition(result: Result) -> None:
    if result["degraded"] is None:  # of unknown condition, as real videos are
        return
    rows = [
        [name, *_values(one), f"{one['num_frames']:,}", f"{one['num_boxes']:,}"]
        for name, one in (("degraded", result["degraded"]), ("clean", result["clean"]))
    ]
    console.table("By condition of the frames", ["", *AP_COLUMNS, "frames", "boxes"], rows)


def _speeds(result: Result) -> list[str]:
    coco = result["motion"]["coco"]
    return [_number(coco[speed]["AP"] if coco else None) for speed in SPEEDS]


def _errors(counts: Result) -> list[str]:
    kinds = ("correct", "wrong_class", "missed", "false_alarms")
    return [f"{counts.get(kind, 0):,}" for kind in kinds]


def _values(values: Result, keys: Sequence[str] = AP_COLUMNS) -> list[str]:
    return [_number(values[key]) for key in keys]


def _number(value: float | None) -> str:
    """Format a value; a class without boxes has none, which differs from 0."""
    return "-" if value is None else f"{value:.3f}"
