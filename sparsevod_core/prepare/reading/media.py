"""Frames of one video, from image files or a video file, and the boxes added to them.

All formats open their frames and add their boxes here, so that an unreadable frame, a box outside
the frame or a repeated object is treated alike in all of them.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from sparsevod_core.errors import DataError, VideoError
from sparsevod_core.prepare.reading.annotated import (
    AnnotatedFrame,
    AnnotatedVideo,
    LabeledBox,
    add_motion,
    box_within_frame,
)
from sparsevod_core.prepare.reading.frame_groups import ImageFrames
from sparsevod_core.prepare.reading.image_size import read_image_size, size_problem

_REPEATED = "boxes that repeat another one"


@dataclass(frozen=True, slots=True)
class VideoFrames:
    """Frames inside a video file.

    Attributes:
        name: Name of the video, unique within a set.
        file: Path relative to the root.
        numbers: Frame indices from 0, ascending; None for all frames that decode.
    """

    name: str
    file: str
    numbers: Sequence[int] | None = None


Media = ImageFrames | VideoFrames


def media_inputs(media: Media, every_file: bool) -> Iterator[str]:
    """Yield the files relative to the root, or only their folders unless `every_file`."""
    if isinstance(media, VideoFrames):
        yield media.file
    else:
        yield from inputs_of((file for _, file in media.files), every_file)


def inputs_of(files: Iterable[str], every_file: bool) -> Iterable[str]:
    """Return the files, or each of their folders once unless `every_file`."""
    return files if every_file else dict.fromkeys(file.rpartition("/")[0] for file in files)


@dataclass(frozen=True, slots=True)
class AnnotatedMedia:
    """Frames of one video, and the annotation file that describes them (a `label_set.Source`)."""

    media: Media
    annotation: Path

    @property
    def name(self) -> str:
        return self.media.name

    def inputs(self, every_file: bool) -> Iterator[str | Path]:
        """See `label_set.Source`."""
        yield self.annotation
        yield from media_inputs(self.media, every_file)


def open_media(root: Path, media: Media) -> AnnotatedVideo:
    """Return the frames with their sizes, without boxes; missing frames become problems.

    Raises:
        VideoError: A video file cannot be opened.
    """
    if isinstance(media, ImageFrames):
        return _open_images(root, media)
    video = AnnotatedVideo(media.name, file_name=media.file)
    height, width, numbers = frames_in_file(root / media.file, media.numbers, video.problems)
    video.frames = [
        AnnotatedFrame(f"{media.name}/{number:06d}", number, width, height, [])
        for number in numbers
    ]
    return video


def _open_images(root: Path, media: ImageFrames) -> AnnotatedVideo:
    video = AnnotatedVideo(media.name, media.is_video)
    first_files: dict[int, str] = {}
    for number, file in media.files:
        first = first_files.setdefault(number, file)
        if first != file:
            video.problems.append(f"{root / file}: the same frame as {first}, skipped")
            continue
        try:
            height, width = read_image_size(root / file)
        except DataError as error:
            video.problems.append(error.message)
            continue
        video.frames.append(AnnotatedFrame(file, number, width, height, []))
    return video


def require_size(root: Path, video: AnnotatedVideo, stated: tuple[int, int], where: str) -> None:
    """Check that all frames have the (height, width) for which boxes in pixels are meant.

    Raises:
        DataError: A frame has another size, e.g. of a video that was scaled after it was labeled.
    """
    for frame in video.frames:
        if (frame.height, frame.width) != stated:
            path = root / (video.file_name or frame.file_name)
            raise DataError(size_problem(path, (frame.height, frame.width), stated, where))


def frames_in_file(
    path: Path, numbers: Sequence[int] | None, problems: list[str]
) -> tuple[int, int, Sequence[int]]:
    """Return height, width, and which of the frames `numbers` (None: all) a video file has.

    Headers are too often wrong to rely on, so the last frame is sought, which is fast. The file is
    decoded to count its frames only if that frame is missing, or if all frames are requested.

    Raises:
        VideoError: The file cannot be opened.
    """
    from sparsevod_core.video.reader import VideoReader

    with VideoReader(path, threads=1) as reader:
        if numbers is None:
            numbers = range(reader.num_frames())
        elif len(numbers):
            try:
                reader.frames_at([numbers[-1]])
            except VideoError:
                count = reader.num_frames()
                problems.append(
                    f"{path}: annotated up to frame {numbers[-1]} (counted from 0), but only "
                    f"{count} frames decode"
                )
                numbers = numbers[: bisect_left(numbers, count)]  # may be a range of any length
        return reader.height, reader.width, numbers


def add_box(
    video: AnnotatedVideo,
    frame: AnnotatedFrame,
    box: LabeledBox,
    place: str,
    *,
    slack_px: float = 0.0,
) -> None:
    """Add a box to a frame of a video, clipped to it; report what is wrong as a problem.

    Args:
        place: File and line, for the problem.
        slack_px: A box that extends up to this far beyond the frame is clipped without a problem.
    """
    same = [other for other in frame.boxes if box.track is not None and other.track == box.track]
    if same:
        problem = f"{place}: object {box.track} has a box in frame {frame.number} already"
        if any(other.class_id == box.class_id for other in same):
            video.problems.append(f"{problem}, skipped")
            return
        video.problems.append(f"{problem}, of another class: used without its track")
        box.track = None
    left, top, right, bottom = box.box_xyxy
    beyond_px = max(-left, -top, right - frame.width, bottom - frame.height)
    clipped, problem = box_within_frame(box.box_xyxy, frame.width, frame.height)
    if problem and (clipped is None or beyond_px > slack_px):
        video.problems.append(f"{place}: {problem}")
    if clipped is not None:
        box.box_xyxy = clipped
        frame.boxes.append(box)


def finish(video: AnnotatedVideo) -> AnnotatedVideo:
    """Leave out repeated boxes, sort the frames, and set the motion IoU of tracked boxes."""
    for frame in video.frames:
        if len(frame.boxes) > 1:
            _leave_out_repeated(video, frame)
    if video.is_video:
        video.frames.sort(key=lambda frame: frame.number)
        add_motion(video.frames)
    return video


def _leave_out_repeated(video: AnnotatedVideo, frame: AnnotatedFrame) -> None:
    """Remove boxes without a track that are in the frame already: tools save objects twice."""
    kept = {(box.class_id, box.box_xyxy, box.is_crowd, box.track): box for box in frame.boxes}
    if len(kept) < len(frame.boxes):
        video.left_out[_REPEATED] += len(frame.boxes) - len(kept)
        frame.boxes = list(kept.values())
