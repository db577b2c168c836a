"""Report on a dataset: its numbers, and what in it is broken or unusual."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from sparsevod_core.config import Config
from sparsevod_core.data.annotation_file import read_annotation_file
from sparsevod_core.data.records import VideoSet
from sparsevod_core.errors import DataError
from sparsevod_core.prepare.checks.boxes import SIDE_EDGES_PX, BoxCounts, check_boxes
from sparsevod_core.prepare.checks.classes import ClassCounts, check_classes
from sparsevod_core.prepare.checks.entries import find_invalid_entries
from sparsevod_core.prepare.checks.files import FileCounts, check_files
from sparsevod_core.prepare.checks.findings import SEVERITIES, Finding, Severity, find
from sparsevod_core.prepare.checks.frames import FrameCounts, check_frames
from sparsevod_core.prepare.checks.statistics import BoxColumns
from sparsevod_core.prepare.checks.tracks import Tracks, check_tracks
from sparsevod_core.reporting import Reporter, SilentReporter

SCHEMA = "sparsevod.check/1"


@dataclass(frozen=True, slots=True)
class DatasetReport:
    """Numbers and findings of one dataset.

    Attributes:
        file: Path of the annotations.
        root: Folder that file names are relative to.
        is_complete: False if broken entries are not included in the numbers.
        frames, classes, boxes, tracks, files: The numbers.
        findings: Errors first, then problems, then remarks.
    """

    file: Path
    root: Path
    is_complete: bool
    frames: FrameCounts
    classes: tuple[ClassCounts, ...]
    boxes: BoxCounts
    tracks: Tracks
    files: FileCounts
    findings: tuple[Finding, ...]

    def count(self, severity: Severity) -> int:
        """Return the number of findings with this severity."""
        return sum(finding.severity == severity for finding in self.findings)

    def to_dict(self) -> dict[str, Any]:
        """Return the report as JSON values; docs/own_videos.md describes the keys."""
        report = dataclasses.asdict(self, dict_factory=_as_json)
        frames, boxes, tracks = report["frames"], report["boxes"], report["tracks"]
        parts = report["classes"], boxes.pop("per_class"), tracks.pop("per_class")
        histograms = {
            "frames_per_video": frames.pop("frames_per_video"),
            "boxes_per_frame": frames.pop("boxes_per_frame"),
            "track_lengths": tracks.pop("lengths"),
            "motion_iou": tracks.pop("motion_iou"),
            "aspect": boxes.pop("aspect"),
            "sides_per_class": {
                "edges": SIDE_EDGES_PX.tolist(),
                "counts": boxes.pop("sides_per_class"),
            },
            "centres": boxes.pop("centers"),
        }
        return {
            "file": str(self.file),
            "root": str(self.root),
            "is_complete": self.is_complete,
            "verdict": {f"{name}s": self.count(name) for name in SEVERITIES},
            "findings": report["findings"],
            "frames": frames,
            "classes": [
                {**counts, "sizes": sizes, "motion": motion}
                for counts, sizes, motion in zip(*parts, strict=True)
            ],
            "boxes": {**boxes.pop("all"), **boxes},
            "tracks": tracks["all"],
            "files": report["files"],
            "histograms": histograms,
        }


def check_datasets(
    files: Sequence[Path],
    root: Path | None = None,
    *,
    decode: bool = False,
    reporter: Reporter | None = None,
) -> tuple[list[DatasetReport], list[Finding]]:
    """Report on COCO-VID files, and find videos that several of them contain.

    Args:
        root: Folder that file names are relative to; None: as in `VideoSet.load`.
        decode: If True, open every image and count the frames of every video file; otherwise open
            a sample.

    Raises:
        DataError: A file that is not JSON, lacks a section, or has no valid image or category.
    """
    reporter = reporter or SilentReporter()
    reports, videos_of_files, shared = [], [], []
    for file in map(Path, files):
        reporter.message(f"reading {file}")
        report, videos = _check(file, root, decode, reporter)
        reports.append(report)
        videos_of_files.append((file, videos))
    for (first_file, first), (second_file, second) in combinations(videos_of_files, 2):
        names = sorted({first[key] for key in first.keys() & second.keys()})
        text = f"videos or stills that are both in {first_file} and in {second_file}"
        shared += find("shared", "problem", text, names)
    return reports, shared


def _check(
    file: Path, root: Path | None, decode: bool, reporter: Reporter
) -> tuple[DatasetReport, dict[tuple[str, str], str]]:
    """Return the report on a file, and its videos (see `_videos_by_source`)."""
    videos, findings, names_without_frames = _load(file, root, reporter)
    columns = BoxColumns.of(videos)
    frames, frame_findings = check_frames(videos, names_without_frames)
    classes, class_findings = check_classes(videos, columns)
    boxes, box_findings = check_boxes(videos, columns, Config())
    tracks, track_findings = check_tracks(videos, columns)
    files, file_findings = check_files(
        videos, root_is_given=root is not None, decode=decode, reporter=reporter
    )
    parts = (file_findings, frame_findings, class_findings, box_findings, track_findings)
    found = [*findings, *(finding for part in parts for finding in part)]
    found.sort(key=lambda finding: SEVERITIES.index(finding.severity))
    report = DatasetReport(
        file=videos.annotations_path,
        root=videos.root,
        is_complete=not findings,
        frames=frames,
        classes=classes,
        boxes=boxes,
        tracks=tracks,
        files=files,
        findings=tuple(found),
    )
    return report, _videos_by_source(videos)


def _load(
    file: Path, root: Path | None, reporter: Reporter
) -> tuple[VideoSet, list[Finding], list[str]]:
    """Return the dataset, findings on broken entries, and the names of videos without frames."""
    findings: list[Finding] = []
    try:
        content = read_annotation_file(file)
        videos = VideoSet.of(content, root)
    except DataError as error:
        if not file.is_file():
            raise
        reporter.warning(f"{error.message}; checking every entry")
        content, findings = find_invalid_entries(file)
        try:
            videos = VideoSet.of(content, root)
        except DataError as error:
            if not findings:
                raise
            worst = max(findings, key=lambda finding: finding.count)
            raise DataError(
                f"{error.message} after skipping broken entries; {worst.text}: {worst.count:,}, "
                f"{worst.places[0]}",
                hint=error.hint,
            ) from error
    used, listed = set(content.images.video_ids), content.videos
    names = [name for id_, name in zip(listed.ids, listed.names, strict=True) if id_ not in used]
    return videos, findings, names


def _videos_by_source(videos: VideoSet) -> dict[tuple[str, str], str]:
    """Return the names of all videos, by what identifies them in several files: name or path."""
    sources = {}
    for video in range(videos.num_videos):
        name = videos.video_name(video)
        path, _ = videos.frame_path(videos.video_frames(video)[0])
        sources["name", name] = sources["path", str(path)] = name
    return sources


def _as_json(items: list[tuple[str, Any]]) -> dict[str, Any]:
    return {k: v.tolist() if isinstance(v, np.ndarray) else v for k, v in items}
