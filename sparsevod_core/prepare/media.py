"""The frames of one video before any label is read: from image files, or inside a video file.

Every format opens its frames here and adds boxes here, so that a frame that cannot be read, a box
that leaves it or an object that is there twice means the same in all of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from sparsevod_core.errors import DataError, VideoError
from sparsevod_core.prepare.annotated import (
    AnnotatedFrame,
    AnnotatedVideo,
    LabelledBox,
    add_motion,
    box_within_frame,
)
from sparsevod_core.prepare.frame_names import ImageFrames
from sparsevod_core.prepare.image_size import read_image_size


@dataclass(frozen=True, slots=True)
class VideoFrames:
    """Frames inside a video file.

    Attributes:
        name: of the video, unique within a set.
        file: relative to the root.
        numbers: of the frames, counted from 0, ascending; None takes all that decode.
    """

    name: str
    file: str
    numbers: Sequence[int] | None = None


Media = ImageFrames | VideoFrames


def media_inputs(media: Media, every_file: bool) -> Iterator[str]:
    """Files, or the folders that they lie in unless `every_file`, relative to the root."""
    if isinstance(media, VideoFrames):
        yield media.file
    else:
        yield from inputs_of((file for _, file in media.files), every_file)


def inputs_of(files: Iterable[str], every_file: bool) -> Iterable[str]:
    """The files themselves, or their folders, each once."""
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
    """The frames with their sizes, without boxes; those that are not there are named as problems.

    Raises:
        VideoError: a video file that cannot be opened.
    """
    return _open_images(root, media) if isinstance(media, ImageFrames) else _open_file(root, media)


def _open_images(root: Path, media: ImageFrames) -> AnnotatedVideo:
    video = AnnotatedVideo(media.name, media.is_video)
    taken: dict[int, str] = {}
    for number, file in media.files:
        first = taken.setdefault(number, file)
        if first != file:
            video.problems.append(f"{root / file}: the same frame as {first}, left out")
            continue
        try:
            height, width = read_image_size(root / file)
        except DataError as error:
            video.problems.append(error.message)
            continue
        video.frames.append(AnnotatedFrame(file, number, width, height, []))
    return video


def _open_file(root: Path, media: VideoFrames) -> AnnotatedVideo:
    video = AnnotatedVideo(media.name, file_name=media.file)
    height, width, numbers = frames_in_file(root / media.file, media.numbers, video.problems)
    video.frames = [
        AnnotatedFrame(f"{media.name}/{number:06d}", number, width, height, [])
        for number in numbers
    ]
    return video


def frames_in_file(
    path: Path, numbers: Sequence[int] | None, problems: list[str]
) -> tuple[int, int, Sequence[int]]:
    """Height, width and those of the frames that a video file has.

    The last frame is sought, which is quick; only where it is not there, or where all frames are
    asked for, is the file decoded to count them: headers are wrong too often to be believed.

    Raises:
        VideoError: a file that cannot be opened.
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
                numbers = [number for number in numbers if number < count]
        return reader.height, reader.width, numbers


def add_box(
    video: AnnotatedVideo,
    frame: AnnotatedFrame,
    box: LabelledBox,
    where: str,
    *,
    slack_px: float = 0.0,
) -> None:
    """Put a box into a frame of a video, clipped; what is wrong with it becomes a problem.

    Args:
        video: takes the problem.
        frame: takes the box.
        box: as annotated.
        where: file and line, for the problem.
        slack_px: a box that leaves the frame by no more is clipped without a word.
    """
    if box.track is not None and any(other.track == box.track for other in frame.boxes):
        video.problems.append(
            f"{where}: object {box.track} has a box in frame {frame.number} already, left out"
        )
        return
    left, top, right, bottom = box.box_xyxy
    beyond_px = max(-left, -top, right - frame.width, bottom - frame.height)
    clipped, problem = box_within_frame(box.box_xyxy, frame.width, frame.height)
    if problem and (clipped is None or beyond_px > slack_px):
        video.problems.append(f"{where}: {problem}")
    if clipped is not None:
        box.box_xyxy = clipped
        frame.boxes.append(box)


def finish(video: AnnotatedVideo) -> AnnotatedVideo:
    """Frames in order of time, and each box's motion IoU where there are tracks."""
    if video.is_video:
        video.frames.sort(key=lambda frame: frame.number)
        add_motion(video.frames)
    return video
