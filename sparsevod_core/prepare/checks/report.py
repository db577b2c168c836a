"""The report on a data set: its numbers, and what in it is broken or odd."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from sparsevod_core.config import Config
from sparsevod_core.data.annotation_file import AnnotationFile, read_annotation_file
from sparsevod_core.data.records import VideoSet
from sparsevod_core.errors import DataError
from sparsevod_core.prepare.checks.boxes import SIDE_EDGES_PX, BoxCounts, check_boxes
from sparsevod_core.prepare.checks.classes import ClassCounts, check_classes
from sparsevod_core.prepare.checks.columns import BoxColumns
from sparsevod_core.prepare.checks.entries import find_invalid_entries
from sparsevod_core.prepare.checks.files import FileCounts, check_files
from sparsevod_core.prepare.checks.findings import SEVERITIES, Finding, Severity, first
from sparsevod_core.prepare.checks.frames import FrameCounts, check_frames
from sparsevod_core.prepare.checks.odd_boxes import find_odd_boxes
from sparsevod_core.prepare.checks.tracks import Tracks, check_tracks
from sparsevod_core.reporting import Reporter, SilentReporter

SCHEMA = "sparsevod.check/1"


@dataclass(frozen=True, slots=True)
class DatasetReport:
    """What a set holds.

    Attributes:
        file: the annotations.
        root: where file names start from.
        is_complete: False where broken entries had to be left out of the numbers.
        frames, classes, boxes, tracks, files: the numbers.
        findings: errors first, then problems, then remarks.
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
        """How many findings are of this severity."""
        return sum(finding.severity == severity for finding in self.findings)

    def to_dict(self) -> dict[str, Any]:
        """The report in values that JSON has, the keys of `sparsevod prepare-vid --help`."""
        frames, boxes, tracks = (_plain(part) for part in (self.frames, self.boxes, self.tracks))
        per_class = zip(self.classes, boxes.pop("per_class"), tracks.pop("per_class"), strict=True)
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
            "centres": boxes.pop("centres"),
        }
        return {
            "file": str(self.file),
            "root": str(self.root),
            "is_complete": self.is_complete,
            "verdict": {f"{name}s": self.count(name) for name in SEVERITIES},
            "findings": [finding.to_dict() for finding in self.findings],
            "frames": frames,
            "classes": [
                {**_plain(counts), "sizes": sizes, "motion": motion}
                for counts, sizes, motion in per_class
            ],
            "boxes": {**boxes.pop("all"), **boxes},
            "tracks": tracks["all"],
            "files": _plain(self.files),
            "histograms": histograms,
        }


def check_datasets(
    files: Sequence[Path],
    root: Path | None = None,
    *,
    decode: bool = False,
    reporter: Reporter | None = None,
) -> tuple[list[DatasetReport], list[Finding]]:
    """Report on COCO-VID files, and on the videos that more than one of them holds.

    Args:
        files: the annotations.
        root: folder that file names start from; None: as `VideoSet.load` finds it.
        decode: open every image and count the frames of every video file; else a sample is opened.
        reporter: told about progress.

    Raises:
        DataError: a file that is not JSON, lacks a section, or holds no sound image or category.
    """
    reporter = reporter or SilentReporter()
    reports, known_videos, shared = [], [], []
    for file in files:
        reporter.message(f"reading {file}")
        videos, findings, without_frames = _load(Path(file), root, reporter)
        reports.append(_report(videos, findings, without_frames, root, decode, reporter))
        known_videos.append((Path(file), _videos_by_source(videos)))
    for (first_file, first_videos), (second_file, second_videos) in combinations(known_videos, 2):
        names = {first_videos[key] for key in first_videos.keys() & second_videos.keys()}
        if names:
            text = f"videos or stills that are in {first_file} and in {second_file}"
            shared.append(Finding("shared", "problem", text, len(names), first(sorted(names))))
    return reports, shared


def _load(
    file: Path, root: Path | None, reporter: Reporter
) -> tuple[VideoSet, list[Finding], list[str]]:
    """The set, what is broken in its file, and the names of videos without a frame."""
    findings: list[Finding] = []
    try:
        content = read_annotation_file(file)
        return VideoSet.of(content, root), findings, _without_frames(content)
    except DataError as error:
        if not file.is_file():
            raise
        reporter.warning(f"{error.message}; looking at every entry")
        content, findings = find_invalid_entries(file)
    try:
        return VideoSet.of(content, root), findings, _without_frames(content)
    except DataError as error:
        if not findings:
            raise
        worst = max(findings, key=lambda finding: finding.count)
        raise DataError(
            f"{error.message} when broken entries are left out; {worst.text}: {worst.count:,}, "
            f"{worst.places[0]}",
            hint=error.hint,
        ) from error


def _without_frames(content: AnnotationFile) -> list[str]:
    used = set(np.unique(np.array(content.images.video_ids)).tolist())
    videos = content.videos
    return [name for id_, name in zip(videos.ids, videos.names, strict=True) if id_ not in used]


def _report(
    videos: VideoSet,
    findings: list[Finding],
    videos_without_frames: list[str],
    root: Path | None,
    decode: bool,
    reporter: Reporter,
) -> DatasetReport:
    config = Config()
    columns = BoxColumns.of(videos)
    frames, frame_findings = check_frames(videos, videos_without_frames)
    classes, class_findings = check_classes(videos, columns)
    boxes = check_boxes(videos, columns, config.data)
    odd_boxes = list(find_odd_boxes(videos, columns, boxes, config.model))
    tracks, track_findings = check_tracks(videos, columns)
    files, file_findings = check_files(
        videos, root_is_given=root is not None, decode=decode, reporter=reporter
    )
    found = [
        *findings,
        *file_findings,
        *frame_findings,
        *class_findings,
        *odd_boxes,
        *track_findings,
    ]
    found.sort(key=lambda finding: SEVERITIES.index(finding.severity))
    return DatasetReport(
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


def _videos_by_source(videos: VideoSet) -> dict[tuple[str, str], str]:
    """What tells that a video is the same as one of another file: its name, where it lies."""
    sources = {}
    for video in range(videos.num_videos):
        name = videos.video_name(video)
        path, _ = videos.frame_path(videos.video_frames(video)[0])
        sources["name", name] = sources["path", str(path)] = name
    return sources


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        return {
            field.name: _plain(getattr(value, field.name)) for field in dataclasses.fields(value)
        }
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, tuple):
        return [_plain(part) for part in value]
    return value
