"""Writes COCO-VID JSON video by video, so that a million frames need no memory.

One file holds `info`, `categories`, `images`, `annotations` and `videos`; every record is one line.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sparsevod_core.prepare.rendered_video import RenderedVideo


@dataclass(frozen=True, slots=True)
class Position:
    """How far a file is written: bytes of its two parts, and how many ids of each kind are used."""

    image_bytes: int = 0
    annotation_bytes: int = 0
    num_images: int = 0
    num_annotations: int = 0
    num_instances: int = 0


class CocoVidWriter:
    """A JSON file that appears under its name only when it is finished.

    Until then there are `NAME.partial` and, because all `annotations` follow all `images` in the
    file but arrive between them, `NAME.partial.annotations`. From these a later writer can go on
    at any `position` of this one, given the same `info` and `categories`.

    Ids are given out from 1, in the order of the calls.

    Args:
        path: the file to write; its folder is there.
        info: what stands under `info`.
        categories: `{"id": ..., "name": ...}` records.
        start: where to go on in the partial files; what is behind it is cut off.
        videos: `RenderedVideo.video` of those up to there.

    Raises:
        OSError: the file cannot be written.
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
        self._partial, self._partial_annotations = partial_files(path)
        self._videos = list(videos)
        self.position = start or Position()
        with ExitStack() as stack:
            mode = "r+b" if start else "wb"
            self._images = stack.enter_context(self._partial.open(mode))
            self._annotations = stack.enter_context(self._partial_annotations.open(mode))
            if start is None:
                head = f'{{"info": {_json(info)},\n"categories": {_json(categories)},\n"images": ['
                self.position = Position(self._images.write(head.encode("ascii")))
            else:
                for file, end in (
                    (self._images, start.image_bytes),
                    (self._annotations, start.annotation_bytes),
                ):
                    file.truncate(end)
                    file.seek(end)
            self._files = stack.pop_all()

    def add(self, video: RenderedVideo) -> None:
        """Append a video, its frames and boxes; when this returns, the system has them."""
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
        """Complete the file and give it its name."""
        self._images.write(b'\n],\n"annotations": [')
        with self._partial_annotations.open("rb") as annotations:
            shutil.copyfileobj(annotations, self._images, 1 << 20)
        records = [f'{{"id": {number}, {text}' for number, text in enumerate(self._videos, start=1)]
        videos = _lines(records, is_first=True)
        self._images.write(b'\n],\n"videos": [' + videos + b"\n]}\n")
        self._images.close()
        self._partial.replace(self._path)

    def close(self, *, keep_partial: bool) -> None:
        """Let go of the files; unless they are to be kept, remove those without the final name."""
        self._files.close()
        if not keep_partial:
            self._partial.unlink(missing_ok=True)
            self._partial_annotations.unlink(missing_ok=True)


def partial_files(path: Path) -> tuple[Path, Path]:
    """Where the images and the annotations of `path` are kept while it is written."""
    name = f"{path.name}.partial"
    return path.with_name(name), path.with_name(f"{name}.annotations")


def _lines(records: list[str], *, is_first: bool) -> bytes:
    if not records:
        return b""
    return (("\n" if is_first else ",\n") + ",\n".join(records)).encode("ascii")


def _json(value: Any) -> str:
    return json.dumps(value, allow_nan=False)
