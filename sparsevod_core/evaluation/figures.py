"""Figures of evaluations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure

from sparsevod_core.evaluation.errors.frame_errors import MIN_IOU, MIN_SCORE
from sparsevod_core.evaluation.errors.worst_images import draw_worst
from sparsevod_core.evaluation.metrics.coco import AT_50, AT_75, IOU_THRESHOLDS, RECALL_POINTS
from sparsevod_core.evaluation.score import Evaluation
from sparsevod_core.figures.confusion_matrix import draw_confusion
from sparsevod_core.figures.curves import draw_ap_by_iou
from sparsevod_core.figures.precision_recall import PrecisionRecallPanel, draw_precision_recall
from sparsevod_core.figures.saving import save_figure
from sparsevod_core.reporting import Reporter, SilentReporter


def figure_files(folder: Path, names: Sequence[str]) -> list[Path]:
    """Return the files that `draw_figures` writes for results of these names, without images."""
    of_one = ["precision_recall.png", "precision_recall.pdf", "confusion.png"]
    of_one += ["worst_frames.png", "worst_videos.png"]
    folders = [folder / name for name in names] if len(names) > 1 else [folder]
    curves = [folder / "ap_by_iou.png", folder / "ap_by_iou.pdf"]
    return [*curves, *(one / file for one in folders for file in of_one)]


def draw_figures(
    results: Mapping[str, Evaluation],
    folder: Path,
    *,
    root: Path | None = None,
    reporter: Reporter | None = None,
) -> None:
    """Draw curves that compare all results, and the errors of each.

    Args:
        results: By name, from `Evaluation.with_errors`. Several results get a subfolder each.
        folder: Folder to write to.
        root: Folder that file names in the annotations start from. Default: where the model found
            the frames, or what the annotations say.
        reporter: Receives progress, and a warning if a frame cannot be read.

    Raises:
        ConfigError: There is a file that is no earlier figure.
        DataError: A figure cannot be written.
    """
    by_iou = {name: one.boxes.AP_by_iou for name, one in results.items()}
    _save_curves(draw_ap_by_iou(by_iou), folder / "ap_by_iou")
    if len(results) > 1:
        panels = [
            _panel(at, np.stack([_class_mean(one, at) for one in results.values()], axis=1))
            for at in (AT_50, AT_75)
        ]
        title = "Mean over the classes"
        figure = draw_precision_recall(panels, list(results), are_classes=False, title=title)
        _save_curves(figure, folder / "precision_recall")
    for name, result in results.items():
        subfolder = folder / name if len(results) > 1 else folder
        _draw_result(result, subfolder, root, reporter or SilentReporter())


def _draw_result(result: Evaluation, folder: Path, root: Path | None, reporter: Reporter) -> None:
    """Draw precision and recall of each class, the confusion matrix and the worst frames."""
    assert result.errors is not None, "use `Evaluation.with_errors`"
    file = result.checkpoint or result.predictions
    title = f"{'detections' if file is None else file.name} on {result.annotations.name}"
    names = list(result.boxes.per_class)
    panels = [_panel(at, result.boxes.curves.precision[at]) for at in (AT_50, AT_75)]
    _save_curves(draw_precision_recall(panels, names, title=title), folder / "precision_recall")
    subtitle = f"score > {MIN_SCORE:g}, IoU ≥ {MIN_IOU:g}; shades: fraction of the row"
    matrix = draw_confusion(result.errors.confusion.matrix, names, title=f"{title}\n{subtitle}")
    save_figure(matrix, folder / "confusion.png")
    draw_worst(result.errors, result.annotations, root or result.root, folder, title, reporter)


def _panel(at: int, precision: Float[np.ndarray, "R K"]) -> PrecisionRecallPanel:
    # The mean of interpolated precision over the recall points is the AP.
    return PrecisionRecallPanel(
        float(IOU_THRESHOLDS[at]), RECALL_POINTS, precision, precision.mean(axis=0)
    )


def _class_mean(result: Evaluation, at: int) -> Float[np.ndarray, " R"]:
    precision = result.boxes.curves.precision[at]
    known = ~np.isnan(precision[0])
    return precision[:, known].mean(axis=1) if known.any() else np.full(len(precision), np.nan)


def _save_curves(figure: Figure, path: Path) -> None:
    save_figure(figure, path.with_suffix(".png"))
    save_figure(figure, path.with_suffix(".pdf"))
