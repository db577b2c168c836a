"""What the AP does not tell: which errors, in which frames and videos; with figures if wanted."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sparsevod_core.evaluation.errors.assignment import assign
from sparsevod_core.evaluation.errors.confusion import Confusion
from sparsevod_core.evaluation.errors.frame_errors import FrameErrors
from sparsevod_core.evaluation.errors.worst import (
    WorstFrame,
    WorstVideo,
    frame_dict,
    video_dict,
    worst_frames,
    worst_videos,
)
from sparsevod_core.evaluation.metrics.detection_table import DetectionTable
from sparsevod_core.evaluation.metrics.ground_truth import GroundTruth
from sparsevod_core.evaluation.metrics.video_ap50 import video_ap50
from sparsevod_core.evaluation.rescore import Evaluation
from sparsevod_core.reporting import Reporter, SilentReporter


@dataclass(frozen=True, slots=True)
class ErrorReport:
    """Errors at a score above 0.3: by frame, by class, and where they are worst."""

    errors: FrameErrors
    confusion: Confusion
    frames: list[WorstFrame]
    videos: list[WorstVideo]

    @classmethod
    def of(cls, truth: GroundTruth, table: DetectionTable) -> ErrorReport:
        """Look at the detections that were scored."""
        assignment = assign(truth, table)
        errors = FrameErrors(truth, table, assignment)
        return cls(
            errors,
            Confusion.of(truth, table, assignment),
            worst_frames(errors),
            worst_videos(errors, video_ap50(truth, table)),
        )

    def to_dict(self) -> dict[str, Any]:
        """For JSON: `confusion`, `worst_frames`, `worst_videos`."""
        return {
            "confusion": self.confusion.to_dict(),
            "worst_frames": [frame_dict(self.errors, frame) for frame in self.frames],
            "worst_videos": [video_dict(self.errors, video) for video in self.videos],
        }


def with_report(evaluation: Evaluation) -> Evaluation:
    """The evaluation with its errors, in place of the detections that they are among.

    Raises:
        ValueError: an evaluation without detections.
    """
    if evaluation.truth is None or evaluation.table is None:
        raise ValueError("this evaluation does not hold its detections")
    report = ErrorReport.of(evaluation.truth, evaluation.table)
    return dataclasses.replace(evaluation, errors=report, truth=None, table=None)


def draw_figures(
    results: Mapping[str, Evaluation],
    figures: Path,
    *,
    root: Path | None = None,
    reporter: Reporter | None = None,
) -> None:
    """Curves of all results together, and of each its errors; several have a folder each.

    Args:
        results: by name, as `with_report` gives them.
        figures: the folder.
        root: folder that file names in the annotations start from; None: where the model found
            them, else as the annotations say.
        reporter: told of progress, and once where frames cannot be read.

    Raises:
        DataError: a figure that cannot be written.
    """
    # Here, because they need matplotlib, and pictures torch; scoring alone does without.
    from sparsevod_core.evaluation.errors.report_figures import draw_curves, draw_report

    draw_curves(results, figures)
    for name, result in results.items():
        folder = figures / name if len(results) > 1 else figures
        draw_report(result, folder, root, reporter or SilentReporter())
