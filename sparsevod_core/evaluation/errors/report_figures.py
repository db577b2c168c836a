"""The figures of an evaluation, into a folder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure

from sparsevod_core.evaluation.errors.assignment import MIN_IOU, MIN_SCORE
from sparsevod_core.evaluation.errors.error_pictures import draw_worst
from sparsevod_core.evaluation.metrics.average_precision import IOU_THRESHOLDS, RECALL_POINTS
from sparsevod_core.evaluation.metrics.coco import AT_50, AT_75
from sparsevod_core.evaluation.rescore import Evaluation
from sparsevod_core.figures.confusion_matrix import draw_confusion
from sparsevod_core.figures.curves import draw_ap_by_iou
from sparsevod_core.figures.precision_recall import PrecisionRecallPanel, draw_precision_recall
from sparsevod_core.figures.saving import save_figure
from sparsevod_core.reporting import Reporter


def draw_curves(results: Mapping[str, Evaluation], figures: Path) -> None:
    """AP by IoU threshold, the paper's Fig. 4, and of several results their mean precision."""
    by_iou = {name: one.boxes.AP_by_iou for name, one in results.items()}
    _save_curves(draw_ap_by_iou(by_iou), figures / "ap_by_iou")
    if len(results) > 1:
        figure = draw_precision_recall(
            [
                _panel(at, np.stack([_class_mean(one, at) for one in results.values()], axis=1))
                for at in (AT_50, AT_75)
            ],
            list(results),
            are_classes=False,
            title="Mean over the classes",
        )
        _save_curves(figure, figures / "precision_recall")


def draw_report(
    evaluation: Evaluation, figures: Path, root: Path | None, reporter: Reporter
) -> None:
    """Precision and recall of each class, confusion, and the worst frames and videos."""
    report = evaluation.errors
    assert report is not None, "from `with_report`"
    title = f"{_name(evaluation)} on {evaluation.annotations.name}"
    precision = evaluation.boxes.curves.precision
    names = list(evaluation.boxes.per_class)
    panels = [_panel(at, precision[at]) for at in (AT_50, AT_75)]
    _save_curves(draw_precision_recall(panels, names, title=title), figures / "precision_recall")
    subtitle = f"score > {MIN_SCORE:g}, IoU ≥ {MIN_IOU:g}; shades: share of the row"
    matrix = draw_confusion(report.confusion.matrix, names, title=f"{title}\n{subtitle}")
    save_figure(matrix, figures / "confusion.png")
    root = root or evaluation.root
    draw_worst(report, evaluation.annotations, root, figures, title, reporter)


def _panel(at: int, precision: Float[np.ndarray, "R K"]) -> PrecisionRecallPanel:
    # The mean of interpolated precision over the recall points is the AP.
    return PrecisionRecallPanel(
        float(IOU_THRESHOLDS[at]), RECALL_POINTS, precision, precision.mean(axis=0)
    )


def _class_mean(evaluation: Evaluation, at: int) -> Float[np.ndarray, " R"]:
    precision = evaluation.boxes.curves.precision[at]
    known = ~np.isnan(precision[0])
    return precision[:, known].mean(axis=1) if known.any() else np.full(len(precision), np.nan)


def _save_curves(figure: Figure, path: Path) -> None:
    save_figure(figure, path.with_suffix(".png"))
    save_figure(figure, path.with_suffix(".pdf"))


def _name(evaluation: Evaluation) -> str:
    path = evaluation.checkpoint or evaluation.predictions
    return "detections" if path is None else path.name
