"""Boxes that detections are scored against, exactly as a COCO annotation file has them."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float, Int

from sparsevod_core.data.annotation_columns import FileNames, as_numbers
from sparsevod_core.data.annotation_file import AnnotationFile, read_annotation_file
from sparsevod_core.data.annotation_fit import positions_of, require_fit
from sparsevod_core.data.json_fields import MISSING, Id
from sparsevod_core.data.records import VideoSet
from sparsevod_core.errors import DataError

NO_FRAME = MISSING
"""Value in `GroundTruth.frame_ids` for an image without a `frame_id`."""

UNKNOWN_CONDITION, CLEAN, DEGRADED = -1, 0, 1
"""Values in `GroundTruth.conditions`."""


@dataclass(frozen=True, slots=True, eq=False)
class GroundTruth:
    """Images, classes and boxes of an annotation file. F images; M boxes, in the file's order.

    Boxes keep the file's form and precision (xywh, float64): converted to xyxy or float32 and back,
    a box with an IoU of exactly 0.5 can lose its match.

    Attributes:
        path: Path of the file, named in errors and results.
        image_ids: Ids in ascending order, the order in which pycocotools breaks ties.
        category_ids: Ids in the file's order.
        category_names: Unique names, parallel to `category_ids`.
        images: Position in `image_ids` of each box.
        categories: Position in `category_ids` of each box.
        boxes_xywh: Boxes in pixels.
        areas: The file's `area`, or width times height if it has none.
        is_crowd: True for boxes that may be detected any number of times or not at all.
        instance_ids: Number of each object, the same through its video; -1 without `instance_id`.
        motion_iou: Values of the file, 0..1; NaN where it has none.
        video_names: Names of the videos, then file names (or ids) of images that belong to none.
        video_of_image: Position in `video_names` of each image.
        frame_ids: Place of each image in its video, or `NO_FRAME`.
        conditions: `DEGRADED` or `CLEAN` for images with `degradation` (severities by kind, as
            rendered sets and degraded copies have; empty for a clean frame), otherwise
            `UNKNOWN_CONDITION`.
        file_names: File names of the images, "" where the file has none.
    """

    path: Path
    image_ids: tuple[Id, ...]
    category_ids: tuple[Id, ...]
    category_names: tuple[str, ...]
    images: Int[np.ndarray, " M"]
    categories: Int[np.ndarray, " M"]
    boxes_xywh: Float[np.ndarray, "M 4"]
    areas: Float[np.ndarray, " M"]
    is_crowd: Bool[np.ndarray, " M"]
    instance_ids: Int[np.ndarray, " M"]
    motion_iou: Float[np.ndarray, " M"]
    video_names: tuple[str, ...]
    video_of_image: Int[np.ndarray, " F"]
    frame_ids: Int[np.ndarray, " F"]
    conditions: Int[np.ndarray, " F"]
    file_names: FileNames

    @classmethod
    def load(cls, path: Path) -> GroundTruth:
        """Read a COCO or COCO-VID annotation file.

        Raises:
            DataError: unreadable file, or an invalid entry, named by its position.
        """
        return cls.of(read_annotation_file(path, for_frames=False, for_scoring=True))

    @classmethod
    def of_videos(cls, videos: VideoSet) -> GroundTruth:
        """Return the ground truth of a set, read from its file unless it was loaded for scoring."""
        return (
            cls.load(videos.annotations_path) if videos.content is None else cls.of(videos.content)
        )

    @classmethod
    def of(cls, content: AnnotationFile) -> GroundTruth:
        """Return the ground truth of a file that was read `for_scoring`.

        Raises:
            DataError: entries that do not fit together.
        """
        require_fit(content, for_frames=False)
        annotations = content.annotations
        image_ids, category_ids = as_numbers(content.images.ids), as_numbers(content.category_ids)
        order = _ascending(content)
        file_names = content.images.file_names.names()
        video_names, video_of_image = _videos(content, file_names)
        boxes_xywh = as_numbers(annotations.boxes_xywh).reshape(-1, 4)
        areas = as_numbers(annotations.areas)
        instances = as_numbers(annotations.instance_ids)
        instance_ids = np.unique(instances, return_inverse=True)[1].reshape(-1)
        return cls(
            path=content.path,
            image_ids=tuple(content.ids_of(image_ids[order])),
            category_ids=tuple(content.ids_of(category_ids)),
            category_names=tuple(content.category_names),
            images=positions_of(image_ids[order], as_numbers(annotations.image_ids)),
            categories=positions_of(category_ids, as_numbers(annotations.category_ids)),
            boxes_xywh=boxes_xywh,
            areas=np.where(np.isnan(areas), boxes_xywh[:, 2:].prod(axis=1), areas),
            is_crowd=as_numbers(annotations.is_crowd).astype(bool),
            instance_ids=np.where(instances == MISSING, -1, instance_ids),
            motion_iou=as_numbers(annotations.motion_iou),
            video_names=video_names,
            video_of_image=video_of_image[order],
            frame_ids=as_numbers(content.images.frame_ids)[order],
            conditions=as_numbers(content.images.is_degraded)[order],
            file_names=file_names.take(order),
        )

    def restricted_to(self, image_ids: Collection[Id]) -> GroundTruth:
        """Return the same classes and videos with only these images and their boxes."""
        wanted = set(image_ids)
        kept = [position for position, id_ in enumerate(self.image_ids) if id_ in wanted]
        new_position = np.full(len(self.image_ids), -1)
        new_position[kept] = np.arange(len(kept))
        boxes = new_position[self.images] >= 0
        return dataclasses.replace(
            self,
            image_ids=tuple(self.image_ids[position] for position in kept),
            images=new_position[self.images[boxes]],
            file_names=self.file_names.take(np.array(kept, np.int64)),
            **{name: getattr(self, name)[boxes] for name in _OF_BOXES},
            **{name: getattr(self, name)[kept] for name in _OF_IMAGES},
        )


_OF_BOXES = ("categories", "boxes_xywh", "areas", "is_crowd", "instance_ids", "motion_iou")
_OF_IMAGES = ("video_of_image", "frame_ids", "conditions")


def _ascending(content: AnnotationFile) -> np.ndarray:
    """Return the order that sorts the images by id."""
    column = as_numbers(content.images.ids)
    ids = content.ids_of(column)
    kinds = set(map(type, ids))
    if kinds == {int, str}:
        raise DataError(
            f"{content.path}: images: some ids are numbers and some are text: they have no order"
        )
    if kinds == {str}:
        return np.array(sorted(range(len(ids)), key=ids.__getitem__))
    return np.argsort(column, kind="stable")


def _videos(
    content: AnnotationFile, file_names: FileNames
) -> tuple[tuple[str, ...], Int[np.ndarray, " F"]]:
    """Return the names of videos and stills, and the position among them of each image's own."""
    listed, of_image = as_numbers(content.videos.ids), as_numbers(content.images.video_ids)
    is_still = of_image == MISSING
    unlisted = np.setdiff1d(of_image[~is_still], listed)  # scoring needs no `videos`
    videos = np.concatenate([listed, unlisted])
    positions = positions_of(videos, of_image)
    positions[is_still] = len(videos) + np.arange(is_still.sum())
    stills = np.flatnonzero(is_still)
    still_ids = content.ids_of(as_numbers(content.images.ids)[stills])
    names = (
        *content.videos.names,
        *map(str, content.ids_of(unlisted)),
        *(file_names[n] or str(id_) for n, id_ in zip(stills.tolist(), still_ids, strict=True)),
    )
    return names, positions
