"""Images of the worst frames and videos, with their errors drawn."""

from __future__ import annotations

import re
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

import numpy as np

from sparsevod_core.data.frames import FrameReader
from sparsevod_core.data.json_fields import Id
from sparsevod_core.data.records import VideoSet
from sparsevod_core.errors import DataError, VideoError
from sparsevod_core.evaluation.errors.frame_errors import Box, ErrorCounts, Outcome
from sparsevod_core.evaluation.errors.report import ErrorReport
from sparsevod_core.evaluation.metrics.ground_truth import NO_FRAME, GroundTruth
from sparsevod_core.figures.contact_sheet import Tile, draw_sheet, fitting_scale
from sparsevod_core.figures.error_frame import (
    CORRECT,
    FALSE_ALARM,
    GROUND_TRUTH,
    MISSED,
    WRONG_CLASS,
    DrawnBox,
    draw_errors,
)
from sparsevod_core.figures.saving import save_picture
from sparsevod_core.files.check import is_own
from sparsevod_core.files.kinds import MARKED
from sparsevod_core.reporting import Reporter

COLUMNS = 4
_KEY = (
    (MISSED, "missed"),
    (WRONG_CLASS, "wrong class"),
    (FALSE_ALARM, "false alarm: no such object, or already detected"),
    (CORRECT, "correct"),
    (GROUND_TRUTH, "ground truth (dashed)"),
)


class _Shot(NamedTuple):
    """A frame to draw, by its position in the ground truth, with its caption and file."""

    image: int
    heading: str
    note: str
    file: Path


def draw_worst(
    report: ErrorReport,
    annotations: Path,
    root: Path | None,
    folder: Path,
    title: str,
    reporter: Reporter,
) -> None:
    """Write the sheets worst_frames.png and worst_videos.png, each with a folder of its images.

    A frame that cannot be read is reported, and no more images are drawn.

    Args:
        report: The worst frames and videos.
        annotations, root: The annotations, and the folder of the frames.
        title: What was evaluated, for the sheets.

    Raises:
        DataError: An image cannot be written.
    """
    frames, videos = folder / "worst_frames", folder / "worst_videos"
    sheets = [
        (frames, f"Frames with the most errors: {title}", _frame_shots(report, frames)),
        (videos, f"Videos with the lowest AP50: {title}", _video_shots(report, videos)),
    ]
    for images, _, _ in sheets:  # images of an earlier run could be mistaken for ours
        for old in (*images.glob("[0-9][0-9]_*.jpg"), images.with_suffix(".png")):
            if old.is_file() and is_own(old, MARKED):
                old.unlink()
    total = sum(len(row) for _, _, rows in sheets for row in rows)
    if not total:
        return
    try:
        dataset = VideoSet.load(annotations, root)
    except DataError as error:
        _warn(error, reporter)
        return
    image_ids = report.errors.truth.image_ids
    frame_at: dict[Id, int] = {dataset.image_id(n): n for n in range(dataset.num_frames)}
    with closing(FrameReader(dataset)) as reader, reporter.progress("images", total) as progress:
        for images, heading, rows in sheets:
            tiles: list[list[Tile]] = []
            for row in rows:
                tiles.append([])
                for shot in row:
                    try:
                        image = reader.read(frame_at[image_ids[shot.image]])
                    except (DataError, VideoError) as error:
                        _warn(error, reporter)
                        return
                    tiles[-1].append(_draw(image, report, shot))
                    progress.advance()
            if tiles:
                save_picture(draw_sheet(tiles, title=heading, key=_KEY), images.with_suffix(".png"))


def _warn(error: DataError | VideoError, reporter: Reporter) -> None:
    reporter.warning(
        f"no images of the worst frames (--root sets the folder of the frames): {error.message}"
    )


def _draw(image: np.ndarray, report: ErrorReport, shot: _Shot) -> Tile:
    """Save the image in full size and return it as a tile."""
    boxes = [_drawn(one) for one in report.errors.outcomes(shot.image)]
    save_picture(draw_errors(image, boxes), shot.file)
    scale = fitting_scale(image.shape[1], image.shape[0])
    return Tile(draw_errors(image, boxes, scale=scale), shot.heading, shot.note)


def _frame_shots(report: ErrorReport, folder: Path) -> list[list[_Shot]]:
    truth = report.errors.truth
    shots = []
    for rank, image in enumerate(report.frames, start=1):
        video, name, file = _names(truth, image, rank)
        heading = f"{rank}  {video} · {name}" if name else f"{rank}  {video}"
        counts = _in_words(report.errors.counts_of(image))
        note = f"{counts} · boxes: {report.errors.num_boxes[image]}"
        shots.append(_Shot(image, heading, note, folder / file))
    return [shots[start : start + COLUMNS] for start in range(0, len(shots), COLUMNS)]


def _video_shots(report: ErrorReport, folder: Path) -> list[list[_Shot]]:
    rows = []
    for rank, video in enumerate(report.videos, start=1):
        ap50 = "no boxes" if video.AP50 is None else f"AP50 {video.AP50:.3f}"
        row: list[_Shot] = []
        for image in video.frames:
            video_name, heading, file = _names(report.errors.truth, image, rank)
            note = _in_words(report.errors.counts_of(image))
            if not row:
                note = f"{heading} · {note}" if heading else note
                heading = f"{rank}  {video_name} · {ap50}"
            row.append(_Shot(image, heading, note, folder / file))
        rows.append(row)
    return rows


def _names(truth: GroundTruth, image: int, rank: int) -> tuple[str, str, str]:
    """Return the names of the video and the frame, and a file name valid on every file system."""
    video = truth.video_names[truth.video_of_image[image]]
    frame_id = int(truth.frame_ids[image])
    file = f"{rank:02}_" + re.sub("[^A-Za-z0-9.-]+", "_", video)[-80:]
    if frame_id == NO_FRAME:
        return video, "", f"{file}.jpg"
    return video, f"frame {frame_id}", f"{file}_{frame_id:06}.jpg"


def _in_words(errors: ErrorCounts) -> str:
    counts = {kind.replace("_", " "): count for kind, count in asdict(errors).items() if count}
    return ", ".join(f"{kind}: {count}" for kind, count in counts.items()) or "no errors"


def _drawn(outcome: Outcome) -> DrawnBox:
    detection = f"{outcome.predicted} {outcome.score or 0:.2f}"
    color, text = {
        "missed": (MISSED, f"missed {outcome.true}"),
        "wrong_class": (WRONG_CLASS, f"{detection}, is {outcome.true}"),
        "false_alarm": (FALSE_ALARM, f"false {detection}"),
        "correct": (CORRECT, detection),
    }[outcome.kind]
    return DrawnBox(color, text, _xyxy(outcome.true_xywh), _xyxy(outcome.found_xywh))


def _xyxy(box_xywh: Box | None) -> np.ndarray | None:
    if box_xywh is None:
        return None
    x, y, width, height = box_xywh
    return np.array([x, y, x + width, y + height])
