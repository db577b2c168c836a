"""Page of plots of `prepare-vid --check`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from sparsevod_core.reporting import counted

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from sparsevod_core.figures.dataset_plots import Bars
    from sparsevod_core.prepare.checks.findings import Finding
    from sparsevod_core.prepare.checks.report import DatasetReport
    from sparsevod_core.prepare.checks.statistics import Histogram

NOTED_FINDINGS = 8


def dataset_page(report: DatasetReport) -> Figure:
    """Draw the page of plots of a report."""
    import numpy as np

    from sparsevod_core.figures.dataset_page import DatasetView, draw_dataset
    from sparsevod_core.prepare.checks.boxes import SIDE_EDGES_PX

    width, height, _ = report.frames.sizes[0]
    return draw_dataset(
        DatasetView(
            title=str(report.file),
            facts=_facts(report),
            notes=_notes(report.findings),
            class_names=[one.name for one in report.classes],
            boxes_per_class=np.array([one.boxes for one in report.classes]),
            sides_px=report.boxes.sides_per_class,
            side_edges_px=SIDE_EDGES_PX,
            speeds=np.array([[c.fast, c.medium, c.slow] for c in report.tracks.per_class]),
            boxes_per_frame=_bars(report.frames.boxes_per_frame),
            frames_per_video=_bars(report.frames.frames_per_video),
            track_lengths=_bars(report.tracks.lengths),
            motion_iou=_bars(report.tracks.motion_iou),
            aspect=_bars(report.boxes.aspect),
            centers=report.boxes.centers,
            frame_aspect=width / height,
        )
    )


def _facts(report: DatasetReport) -> str:
    counts = {
        "video": report.frames.videos,
        "still": report.frames.stills,
        "frame": report.frames.frames,
        "box": report.boxes.boxes,
        "class": len(report.classes),
        "track": report.tracks.all.tracks,
    }
    return " · ".join(counted(count, what) for what, count in counts.items() if count)


def _notes(findings: Sequence[Finding]) -> list[str]:
    lines = [
        f"{one.severity}: {one.text}: {one.count:,}" + (f" ({one.advice})" if one.advice else "")
        for one in findings[:NOTED_FINDINGS]
    ]
    if len(findings) > NOTED_FINDINGS:
        lines.append(f"and {len(findings) - NOTED_FINDINGS} more")
    return lines or ["no findings"]


def _bars(histogram: Histogram) -> Bars:
    from sparsevod_core.figures.dataset_plots import Bars

    return Bars(histogram.edges, histogram.counts)
