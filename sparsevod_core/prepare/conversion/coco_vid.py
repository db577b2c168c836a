"""COCO-VID JSON, written video by video, so that memory does not grow with the number of frames.

A file holds `info`, `categories`, `images`, `annotations` and `videos`, one record per line. Worker
processes serialize the records of a video without ids, since these depend on the videos before it.
The process that writes the file only adds the ids, which takes a microsecond per record.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from json.encoder import encode_basestring_ascii
from pathlib import Path
from typing import Any

from sparsevod_core.files.check import require_own
from sparsevod_core.files.kinds import starting
from sparsevod_core.files.names import beside
from sparsevod_core.prepare.reading.annotated import AnnotatedFrame, AnnotatedVideo, LabeledBox

OWN_JSON = starting("COCO-VID JSON of prepare-vid", rb'\{"info": \{"tool": "sparsevod ')


@dataclass(slots=True)
class SerializedVideo:
    """Records without their ids: each is the text from its next field to the closing brace.

    Attributes:
        name: Name of the video.
        video: Record in `videos`; None for still images, and for a video without frames.
        images: One record per frame.
        image_ids: The user's own id of each image; None to use the next free id.
        annotations: One record per box.
        box_images: Position in `images` of the frame of each box.
        box_instances: Number of the object of each box, from 0; None without a track.
        num_instances: Number of objects.
    """

    name: str
    video: str | None = None
    images: list[str] = field(default_factory=list)
    image_ids: list[int | None] = field(default_factory=list)
    annotations: list[str] = field(default_factory=list)
    box_images: list[int] = field(default_factory=list)
    box_instances: list[int | None] = field(default_factory=list)
    num_instances: int = 0


def serialize(video: AnnotatedVideo) -> SerializedVideo:
    """Return the records of a video as JSON text without ids."""
    serialized = SerializedVideo(video.name)
    if video.is_video and video.frames:
        serialized.video = _video_record(video)
    instances: dict[int, int] = {}
    for position, frame in enumerate(video.frames):
        serialized.images.append(_image_record(frame, video.is_video))
        serialized.image_ids.append(frame.image_id)
        for box in frame.boxes:
            # Track ids are unique within a video, instance ids within the data set.
            instance = None
            if box.track is not None:
                instance = instances.setdefault(box.track, len(instances))
            serialized.annotations.append(_annotation_record(box))
            serialized.box_images.append(position)
            serialized.box_instances.append(instance)
    serialized.num_instances = len(instances)
    return serialized


def _video_record(video: AnnotatedVideo) -> str:
    record: dict[str, Any] = {"name": video.name}
    if video.file_name is not None:
        record["file_name"] = video.file_name
    first = video.frames[0]
    record |= {"width": first.width, "height": first.height, "num_frames": len(video.frames)}
    return json.dumps(record)[1:]


def _image_record(frame: AnnotatedFrame, is_video: bool) -> str:
    number = f'"frame_id": {frame.number}, ' if is_video else ""
    target = ""
    if frame.is_target is not None:
        target = f', "is_vid_train_frame": {_BOOL[frame.is_target]}'
    extra = ""
    if frame.extra:
        extra = ", " + json.dumps(dict(frame.extra), allow_nan=False)[1:-1]
    return (
        f'{number}"file_name": {encode_basestring_ascii(frame.file_name)}, '
        f'"width": {frame.width}, "height": {frame.height}{target}{extra}}}'
    )


def _annotation_record(box: LabeledBox) -> str:
    whole = tuple(map(int, box.box_xyxy))
    left, top, right, bottom = whole if whole == box.box_xyxy else box.box_xyxy
    width, height = right - left, bottom - top
    # Motion at full precision: a rounded value could cross the limit between two speeds.
    motion = "" if box.motion_iou is None else f', "motion_iou": {box.motion_iou!r}'
    return (
        f'"category_id": {box.class_id}, "bbox": [{left}, {top}, {width}, {height}], '
        f'"area": {width * height}, "iscrowd": {int(box.is_crowd)}, '
        f'"occluded": {_BOOL[box.occluded]}, "generated": {_BOOL[box.generated]}{motion}}}'
    )


_BOOL = {False: "false", True: "true"}


@dataclass(frozen=True, slots=True)
class Position:
    """Progress of a file: sizes of its two partial files, and numbers of ids in use."""

    image_bytes: int = 0
    annotation_bytes: int = 0
    num_images: int = 0
    num_annotations: int = 0
    num_instances: int = 0


class CocoVidWriter:
    """Writer of a JSON file that appears under its name only when it is complete.

    Until then there are `NAME.partial` and `NAME.partial.annotations`, because `annotations` follow
    `images` in the file but arrive between them. A later writer with the same `info` and
    `categories` can continue from any `position` of this one. Ids start at 1, in the order of the
    calls.

    Args:
        path: Path of the file; its folder exists.
        start: Position in the partial files to continue from; what follows it is cut off.
        videos: `SerializedVideo.video` of the videos before `start`.

    Raises:
        OSError: The file cannot be written.
    """

    def __init__(
        self,
        path: Path,
        *,
        info: Mapping[str, Any],
        categories: Sequence[Mapping[str, Any]],
        start: Position | None = None,
        videos: Sequence[str] = (),
    ) -> None:
        self._path = path
        paths = self._partial, self._partial_annotations = partial_files(path)
        self._videos = list(videos)
        self.position = start or Position()
        with ExitStack() as stack:
            mode = "r+b" if start else "wb"
            files = [stack.enter_context(part.open(mode)) for part in paths]
            self._images, self._annotations = files
            if start is None:
                about, classes = (json.dumps(part, allow_nan=False) for part in (info, categories))
                head = f'{{"info": {about},\n"categories": {classes},\n"images": ['
                self.position = Position(self._images.write(head.encode("ascii")))
            else:
                ends = (start.image_bytes, start.annotation_bytes)
                for file, end in zip(files, ends, strict=True):
                    file.truncate(end)
                    file.seek(end)
            self._files = stack.pop_all()

    def add(self, video: SerializedVideo) -> None:
        """Append a video and hand its records to the operating system."""
        before = self.position
        of_video = ""
        if video.video is not None:
            self._videos.append(video.video)
            of_video = f'"video_id": {len(self._videos)}, '
        image_ids = [
            before.num_images + number if own is None else own
            for number, own in enumerate(video.image_ids, start=1)
        ]
        images = [
            f'{{"id": {image_id}, {of_video}{text}'
            for image_id, text in zip(image_ids, video.images, strict=True)
        ]
        first_instance = before.num_instances + 1
        of_objects = (
            "" if instance is None else f'"instance_id": {first_instance + instance}, '
            for instance in video.box_instances
        )
        annotations = [
            f'{{"id": {box_id}, "image_id": {image_ids[image]}, {of_video}{of_object}{text}'
            for box_id, (image, of_object, text) in enumerate(
                zip(video.box_images, of_objects, video.annotations, strict=True),
                start=before.num_annotations + 1,
            )
        ]
        image_bytes = self._images.write(_lines(images, is_first=before.num_images == 0))
        annotation_bytes = self._annotations.write(
            _lines(annotations, is_first=before.num_annotations == 0)
        )
        self._images.flush()
        self._annotations.flush()
        self.position = Position(
            before.image_bytes + image_bytes,
            before.annotation_bytes + annotation_bytes,
            before.num_images + len(images),
            before.num_annotations + len(annotations),
            before.num_instances + video.num_instances,
        )

    def finish(self) -> None:
        """Complete the file and give it its final name."""
        self._images.write(b'\n],\n"annotations": [')
        with self._partial_annotations.open("rb") as annotations:
            shutil.copyfileobj(annotations, self._images, 1 << 20)
        records = [f'{{"id": {number}, {text}' for number, text in enumerate(self._videos, start=1)]
        videos = _lines(records, is_first=True)
        self._images.write(b'\n],\n"videos": [' + videos + b"\n]}\n")
        self._images.close()
        self._partial.replace(self._path)

    def close(self, *, keep_partial: bool) -> None:
        """Close the files; remove the partial ones unless `keep_partial`."""
        with suppress(OSError):  # of a full disk, which has raised an error already
            self._files.close()
        if not keep_partial:
            self._partial.unlink(missing_ok=True)
            self._partial_annotations.unlink(missing_ok=True)


def partial_files(path: Path) -> tuple[Path, Path]:
    """Return the files that hold the images and the annotations while `path` is written."""
    return beside(path, ".partial"), beside(path, ".partial.annotations")


def require_own_parts(path: Path, *, has_journal: bool) -> None:
    """Raise a ConfigError if a file of another program has the name of one of `partial_files`."""
    images, annotations = partial_files(path)
    require_own(images, OWN_JSON)
    if not has_journal:  # nothing tells the annotations of an earlier conversion from other files
        require_own(annotations, starting("of a conversion", rb'\n\{"id": 1, "image_id": '))


def _lines(records: list[str], *, is_first: bool) -> bytes:
    if not records:
        return b""
    return (("\n" if is_first else ",\n") + ",\n".join(records)).encode("ascii")
