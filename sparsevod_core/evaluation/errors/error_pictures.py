"""Pictures of the worst frames and videos, with what was found and what was not."""

from __future__ import annotations

import dataclasses
import re
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from sparsevod_core.data.frames import FrameReader
from sparsevod_core.data.json_fields import Id
from sparsevod_core.data.records import VideoSet
from sparsevod_core.errors import DataError, VideoError
from sparsevod_core.evaluation.errors.frame_errors import Box, ErrorCounts, Outcome
from sparsevod_core.evaluation.metrics.ground_truth import NO_FRAME, GroundTruth
from sparsevod_core.figures.contact_sheet import Tile, draw_sheet, fitting_scale
from sparsevod_core.figures.error_frame import (
    ANNOTATED,
    CORRECT,
    FALSE_ALARM,
    MISSED,
    WRONG_CLASS,
    DrawnBox,
    draw_errors,
)
from sparsevod_core.figures.saving import save_picture
from sparsevod_core.reporting import Reporter

if TYPE_CHECKING:
    from sparsevod_core.evaluation.errors.report import ErrorReport

COLUMNS = 4
_COLORS = {
    "correct": CORRECT,
    "wrong_class": WRONG_CLASS,
    "false_alarm": FALSE_ALARM,
    "missed": MISSED,
}
_KEY = (
    (MISSED, "missed"),
    (WRONG_CLASS, "found as another class"),
    (FALSE_ALARM, "false: no such box, or found already"),
    (CORRECT, "found"),
    (ANNOTATED, "annotated (dashed)"),
)


@dataclass(frozen=True, slots=True)
class _Shot:
    """A picture to be made: a frame of the ground truth, the words under it, its file."""

    image: int
    heading: str
    note: str
    file: Path


def draw_worst(
    report: ErrorReport,
    annotations: Path,
    root: Path | None,
    figures: Path,
    title: str,
    reporter: Reporter,
) -> None:
    """A sheet for each list, worst_frames.png and worst_videos.png, and its pictures in a folder.

    Where a frame cannot be read, that is said once and no more is drawn.

    Args:
        report: the lists.
        annotations, root: where the frames are.
        figures: the folder.
        title: on the sheets: what was evaluated.
        reporter: told of progress.

    Raises:
        DataError: a picture that cannot be written.
    """
    frames, videos = figures / "worst_frames", figures / "worst_videos"
    sheets = [
        (frames, f"Frames with the most errors: {title}", _of_frames(report, frames)),
        (videos, f"Videos with the lowest AP50: {title}", _of_videos(report, videos)),
    ]
    for folder, _, _ in sheets:  # an earlier run's would pass for ours
        for old in (*folder.glob("[0-9][0-9]_*.jpg"), folder.with_suffix(".png")):
            old.unlink(missing_ok=True)
    total = sum(len(row) for _, _, rows in sheets for row in rows)
    if not total:
        return
    try:
        source = _Source(report.errors.truth, annotations, root)
    except DataError as error:
        _tell(error, reporter)
        return
    with closing(source), reporter.progress("pictures", total) as progress:
        for folder, heading, rows in sheets:
            tiles: list[list[Tile]] = []
            for row in rows:
                tiles.append([])
                for shot in row:
                    try:
                        image = source.read(shot.image)
                    except (DataError, VideoError) as error:
                        _tell(error, reporter)
                        return
                    tiles[-1].append(_draw(image, report, shot))
                    progress.advance()
            if tiles:
                save_picture(draw_sheet(tiles, title=heading, key=_KEY), folder.with_suffix(".png"))


def _draw(image: np.ndarray, report: ErrorReport, shot: _Shot) -> Tile:
    """Save the picture in full size and return it as a tile."""
    boxes = [_drawn(one) for one in report.errors.outcomes(shot.image)]
    save_picture(draw_errors(image, boxes), shot.file)
    scale = fitting_scale(image.shape[1], image.shape[0])
    return Tile(draw_errors(image, boxes, scale=scale), shot.heading, shot.note)


class _Source:
    """The pixels of the frames of the ground truth."""

    def __init__(self, truth: GroundTruth, annotations: Path, root: Path | None) -> None:
        videos = VideoSet.load(annotations, root)
        self._truth = truth
        self._frame_at: dict[Id, int] = {
            videos.image_id(frame): frame for frame in range(videos.num_frames)
        }
        self._reader = FrameReader(videos)

    def read(self, image: int) -> np.ndarray:
        return self._reader.read(self._frame_at[self._truth.image_ids[image]])

    def close(self) -> None:
        self._reader.close()


def _tell(error: DataError | VideoError, reporter: Reporter) -> None:
    reporter.warning(
        "no pictures of the worst frames (--root says where the frames are): " + error.message
    )


def _of_frames(report: ErrorReport, folder: Path) -> list[list[_Shot]]:
    truth = report.errors.truth
    shots = [
        _Shot(
            frame.image,
            f"{rank}  {_title(truth, frame.image)}",
            f"{_in_words(frame.errors)}; {frame.num_boxes} annotated",
            folder / _file_name(truth, frame.image, rank),
        )
        for rank, frame in enumerate(report.frames, start=1)
    ]
    return [shots[start : start + COLUMNS] for start in range(0, len(shots), COLUMNS)]


def _of_videos(report: ErrorReport, folder: Path) -> list[list[_Shot]]:
    truth = report.errors.truth
    rows = []
    for rank, video in enumerate(report.videos, start=1):
        ap50 = "no boxes" if video.AP50 is None else f"AP50 {video.AP50:.3f}"
        row = [
            _Shot(
                image,
                _frame_title(truth, image),
                _in_words(report.errors.counts_of(image)),
                folder / _file_name(truth, image, rank),
            )
            for image in video.frames
        ]
        row[0] = dataclasses.replace(
            row[0],
            heading=f"{rank}  {truth.video_names[video.video]} · {ap50}",
            note=f"{row[0].heading}: {row[0].note}".lstrip(": "),
        )
        rows.append(row)
    return rows


def _title(truth: GroundTruth, image: int) -> str:
    name = truth.video_names[truth.video_of_image[image]]
    frame = _frame_title(truth, image)
    return f"{name} · {frame}" if frame else name


def _frame_title(truth: GroundTruth, image: int) -> str:
    frame_id = int(truth.frame_ids[image])
    return "" if frame_id == NO_FRAME else f"frame {frame_id}"


def _file_name(truth: GroundTruth, image: int, rank: int) -> str:
    """Of letters that every file system takes, whatever the video is called."""
    name = re.sub("[^A-Za-z0-9.-]+", "_", truth.video_names[truth.video_of_image[image]])[-80:]
    frame_id = int(truth.frame_ids[image])
    return (
        f"{rank:02}_{name}.jpg" if frame_id == NO_FRAME else f"{rank:02}_{name}_{frame_id:06}.jpg"
    )


def _in_words(errors: ErrorCounts) -> str:
    counts = (
        (errors.missed, "missed"),
        (errors.wrong_class, "wrong class"),
        (errors.false_alarms, "false"),
    )
    return ", ".join(f"{count} {word}" for count, word in counts if count) or "no errors"


def _drawn(outcome: Outcome) -> DrawnBox:
    text = {
        "missed": f"missed {outcome.true}",
        "wrong_class": f"{outcome.predicted} {outcome.score or 0:.2f}, is {outcome.true}",
        "false_alarm": f"false {outcome.predicted} {outcome.score or 0:.2f}",
        "correct": f"{outcome.predicted} {outcome.score or 0:.2f}",
    }[outcome.kind]
    true, found = _xyxy(outcome.true_xywh), _xyxy(outcome.found_xywh)
    return DrawnBox(_COLORS[outcome.kind], text, true, found)


def _xyxy(box_xywh: Box | None) -> np.ndarray | None:
    if box_xywh is None:
        return None
    x, y, width, height = box_xywh
    return np.array([x, y, x + width, y + height])
