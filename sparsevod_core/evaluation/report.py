"""What the AP does not tell: which errors, in which frames and videos; with figures if wanted."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sparsevod_core.evaluation.assignment import assign
from sparsevod_core.evaluation.confusion import Confusion
from sparsevod_core.evaluation.frame_errors import FrameErrors
from sparsevod_core.evaluation.rescore import Evaluation
from sparsevod_core.evaluation.worst import (
    WorstFrame,
    WorstVideo,
    frame_dict,
    video_dict,
    worst_frames,
    worst_videos,
)
from sparsevod_core.reporting import Reporter, SilentReporter


@dataclass(frozen=True, slots=True)
class ErrorReport:
    """Errors at a score above 0.3: by class, by frame, by video."""

    errors: FrameErrors
    confusion: Confusion
    frames: list[WorstFrame]
    videos: list[WorstVideo]

    @classmethod
    def of(cls, evaluation: Evaluation) -> ErrorReport:
        """Look at the detections that were scored."""
        truth, table = evaluation.truth, evaluation.table
        if truth is None or table is None:
            raise ValueError("this evaluation does not hold its detections")
        assignment = assign(truth, table)
        errors = FrameErrors(truth, table, assignment)
        confusion = Confusion.of(truth, table, assignment)
        return cls(errors, confusion, worst_frames(errors), worst_videos(errors))

    def to_dict(self) -> dict[str, Any]:
        """For JSON: `confusion`, `worst_frames`, `worst_videos`."""
        return {
            "confusion": self.confusion.to_dict(),
            "worst_frames": [frame_dict(self.errors, frame) for frame in self.frames],
            "worst_videos": [video_dict(self.errors, video) for video in self.videos],
        }


def with_report(
    evaluation: Evaluation,
    *,
    figures: Path | None = None,
    root: Path | None = None,
    reporter: Reporter | None = None,
) -> Evaluation:
    """The evaluation with its errors in `reports`, and without the detections that they are of.

    Args:
        evaluation: as it was scored.
        figures: folder for figures and pictures; None: no figures.
        root: folder that file names in the annotations start from; None: as the file says.
        reporter: told of progress, and once where the frames cannot be read.

    Raises:
        DataError: a figure that cannot be written.
    """
    report = ErrorReport.of(evaluation)
    if figures is not None:
        from sparsevod_core.evaluation.report_figures import draw_report

        draw_report(evaluation, report, figures, root, reporter or SilentReporter())
    return dataclasses.replace(evaluation, reports=report.to_dict(), truth=None, table=None)


def draw_comparison(results: Mapping[str, Evaluation], figures: Path) -> None:
    """The curves of one or more results in common figures, as PNG and PDF.

    Raises:
        DataError: a figure that cannot be written.
    """
    from sparsevod_core.evaluation.report_figures import draw_curves

    draw_curves(results, figures)
