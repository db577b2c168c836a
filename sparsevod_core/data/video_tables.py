"""Annotation columns joined by id: frames sorted by video and time, boxes sorted by frame."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from sparsevod_core.data.annotation_columns import FileNames, as_numbers
from sparsevod_core.data.annotation_file import AnnotationFile, is_video_file
from sparsevod_core.data.annotation_fit import corners, positions_of, require_fit
from sparsevod_core.data.json_fields import MISSING
from sparsevod_core.errors import DataError


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Tables:
    """Arrays behind a `VideoSet`, read-only, as are views of them. F frames, V videos, M boxes.

    Attributes:
        video_names: Names of the videos that the file lists; they precede the stills.
        video_files: Video file that holds the frames of each of these videos, or None.
        video_starts: First frame of each video, and F.
        frame_ids: Index in the video file; in an image folder, any increasing numbers.
        sizes: Height and width.
        unusual_names: Frames whose file name may lead out of the root.
        box_starts: First box of each frame, and M.
    """

    video_names: tuple[str, ...]
    video_files: tuple[str | None, ...]
    video_starts: Int[np.ndarray, " V_plus_1"]
    image_ids: Int[np.ndarray, " F"]
    frame_ids: Int[np.ndarray, " F"]
    sizes: Int[np.ndarray, "F 2"]
    is_target: Bool[np.ndarray, " F"]
    file_names: FileNames
    unusual_names: Int[np.ndarray, " unusual"]
    box_starts: Int[np.ndarray, " F_plus_1"]
    boxes_xyxy: Float[np.ndarray, "M 4"]
    labels: Int[np.ndarray, " M"]
    instance_ids: Int[np.ndarray, " M"]
    is_crowd: Bool[np.ndarray, " M"]

    def __post_init__(self) -> None:
        for name in self.__slots__:
            if isinstance(value := getattr(self, name), np.ndarray):
                value.setflags(write=False)


def join(content: AnnotationFile) -> Tables:
    """Return the sorted tables of a file's entries.

    Raises:
        DataError: no image or category, or entries that do not fit together.
    """
    images, videos, annotations = content.images, content.videos, content.annotations
    for section, count in (("images", len(images.ids)), ("categories", len(content.category_ids))):
        if not count:
            raise DataError(f"{content.path}: {section!r} is empty")
    require_fit(content, for_frames=True)
    video_of = positions_of(as_numbers(videos.ids), as_numbers(images.video_ids))
    is_still = video_of < 0
    video_of[is_still] = len(videos.ids) + np.arange(is_still.sum())
    frame_ids = np.where(is_still, 0, as_numbers(images.frame_ids))
    entries = np.lexsort((frame_ids, video_of))  # frame -> its image's entry
    frame_of_entry = np.empty_like(entries)
    frame_of_entry[entries] = np.arange(len(entries))

    image_ids = as_numbers(images.ids)
    frame_of_box = frame_of_entry[positions_of(image_ids, as_numbers(annotations.image_ids))]
    boxes_per_frame = np.bincount(frame_of_box, minlength=len(entries))
    box_order = np.argsort(frame_of_box, kind="stable")
    del frame_of_box
    boxes_xyxy = corners(as_numbers(annotations.boxes_xywh).reshape(-1, 4))[box_order]
    wanted = as_numbers(annotations.category_ids)[box_order]
    labels = positions_of(as_numbers(content.category_ids), wanted)
    instance_ids = as_numbers(annotations.instance_ids)[box_order]
    instance_ids[instance_ids == MISSING] = -1

    used, video_starts = np.unique(video_of[entries], return_index=True)
    listed = [int(video) for video in used if video < len(videos.ids)]
    files = [videos.files[video] for video in listed]
    return Tables(
        video_names=tuple(videos.names[video] for video in listed),
        video_files=tuple(file if is_video_file(file) else None for file in files),
        video_starts=np.append(video_starts, len(entries)),
        image_ids=image_ids[entries],
        frame_ids=frame_ids[entries],
        sizes=_sizes(content, video_of)[entries],
        is_target=as_numbers(images.is_target)[entries].astype(bool),
        file_names=images.file_names.names().take(entries),
        unusual_names=frame_of_entry[as_numbers(images.unusual_names)],
        box_starts=np.concatenate([[0], np.cumsum(boxes_per_frame)]),
        boxes_xyxy=boxes_xyxy,
        labels=labels,
        instance_ids=instance_ids,
        is_crowd=as_numbers(annotations.is_crowd)[box_order].astype(bool),
    )


def _sizes(content: AnnotationFile, video_of: np.ndarray) -> np.ndarray:
    """Return [F, 2] height and width of each image, or of its video if the image has none."""
    images, videos = content.images, content.videos
    sizes = np.stack([as_numbers(images.heights), as_numbers(images.widths)], axis=1)
    of_videos = np.stack([as_numbers(videos.heights), as_numbers(videos.widths)], axis=1)
    missing = (sizes == 0).any(axis=1)
    sizes[missing] = of_videos[video_of[missing]]
    return sizes.astype(np.int32)
