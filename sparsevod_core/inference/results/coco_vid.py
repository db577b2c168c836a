"""COCO-VID JSON: detections as labels, for `prepare-vid`, `train`, `eval` and other tools."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

from sparsevod_core.inference.results.entries import rounded
from sparsevod_core.structures import Category, Detections, FrameDetections
from sparsevod_core.version import version
from sparsevod_core.video.image_folder import ImageFolder
from sparsevod_core.video.opening import OpenVideo
from sparsevod_core.video.sources import Source

SCHEMA_NAME = "sparsevod.coco_vid"


class CocoVid:
    """Annotations, each with a score, then one image per frame, then the video.

    The id of an image is the frame's index from 0, as in COCO results. A track is both
    `instance_id` (MMTracking) and `track_id` (TAO); they are omitted where it is not known.
    File names start from `info.root`, the folder of the source as seen from the JSON.

    Args:
        path: Path of the JSON.
        header: Values known before the first frame.
        source: The source; only files and folders of images can be named.
        video: The same, opened.
        categories: The model's classes, `categories[label]`.
        shown: Returns the detections of a frame to write: labels are not all detections.
    """

    def __init__(
        self,
        path: Path,
        header: dict[str, Any],
        source: Source,
        video: OpenVideo,
        categories: Sequence[Category],
        shown: Callable[[Detections], Detections],
    ) -> None:
        place = Path(source.place).resolve()
        self._info: dict[str, Any] = {
            "schema": f"{SCHEMA_NAME}/1",
            "tool": f"sparsevod {version()}",
        }
        self._video: dict[str, Any] = {"id": 1, "name": source.stem}
        self._images = video.files if isinstance(video, ImageFolder) else None
        if self._images is not None or source.kind == "file":
            root = place.parent if self._images is None else place
            self._info["root"] = os.path.relpath(root, path.resolve().parent)
        if source.kind == "file":
            self._video["file_name"] = place.name
        self._info |= header
        self._size = {"width": video.width, "height": video.height}
        self._categories = categories
        self._shown = shown
        self._num_frames = self._num_boxes = 0

    def start(self) -> str:
        classes = [{"id": category.id, "name": category.name} for category in self._categories]
        return f'{{"info": {_json(self._info)},\n"categories": {_json(classes)},\n"annotations": ['

    def frame(self, found: FrameDetections, time_s: Fraction | None) -> str:
        self._num_frames += 1
        text = ""
        for box, score, category, track_id in rounded(
            self._shown(found.detections), self._categories
        ):
            self._num_boxes += 1
            track = {} if track_id is None else {"instance_id": track_id, "track_id": track_id}
            x1, y1, x2, y2 = box
            width, height = _length(x1, x2), _length(y1, y2)
            entry = {
                "id": self._num_boxes,
                "image_id": found.index,
                "video_id": 1,
                **track,
                "category_id": category.id,
                "bbox": [x1, y1, width, height],
                "area": round(width * height, 3),
                "iscrowd": 0,
                "score": score,
            }
            text += _item(entry, is_first=self._num_boxes == 1)
        return text

    def end(self, *, truncated: bool) -> Iterator[str]:
        yield '\n],\n"images": ['
        for index in range(self._num_frames):
            name = f"{self._video['name']}/{index:06d}"
            if self._images is not None:
                name = self._images[index].name
            image = {"id": index, "video_id": 1, "frame_id": index, "file_name": name, **self._size}
            yield _item(image, is_first=index == 0)
        video = {**self._video, **self._size}
        video |= {"num_frames": self._num_frames, "truncated": truncated}
        yield f'\n],\n"videos": [\n{_json(video)}\n]}}\n'


def _length(start: float, end: float) -> float:
    """Return the length of a side, to 0.001 pixels, such that `start + length` is at most `end`."""
    length = round(end - start, 3)
    return length if start + length <= end else round(length - 0.001, 3)


def _item(entry: dict[str, Any], *, is_first: bool) -> str:
    return ("\n" if is_first else ",\n") + _json(entry)


def _json(entry: Any) -> str:
    return json.dumps(entry, allow_nan=False)
