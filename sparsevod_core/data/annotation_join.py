"""Joins an annotation file's columns by id: frames sorted by video and time, boxes by frame."""

from __future__ import annotations

import re
from array import array
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float, Int

from sparsevod_core.data.annotation_file import NO_VIDEO, AnnotationFile
from sparsevod_core.errors import DataError

VIDEO_FILE_NAME = re.compile(r"\.(3gp|avi|flv|m4v|mkv|mov|mp4|mpe?g|m?ts|webm|wmv)$", re.IGNORECASE)
"""Tells a video's `file_name` that is a video file from one that is a folder of images."""

_DTYPES = {"q": np.int64, "i": np.int32, "d": np.float64, "b": np.int8}  # of `array`'s type codes


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Tables:
    """What `VideoSet` looks up. F frames, V videos, M boxes.

    Attributes:
        video_names: of the videos that the file lists; they come first.
        video_files: of the same videos, the video file that holds the frames or None.
        video_starts: first frame of each video, and F.
        frame_ids: index in the video file; in an image folder any numbers that rise.
        sizes: height, width.
        folders: those that images lie in, with a slash at the end, or empty.
        folder_of: position of each frame's folder.
        name_bytes: file names in these folders, end to end, in UTF-8.
        name_spans: where the name of each frame begins and ends in `name_bytes`.
        unusual_names: frames whose file name may leave the root.
        box_starts: first box of each frame, and M.
    """

    video_names: tuple[str, ...]
    video_files: tuple[str | None, ...]
    video_starts: Int[np.ndarray, " V_plus_1"]
    image_ids: Int[np.ndarray, " F"]
    frame_ids: Int[np.ndarray, " F"]
    sizes: Int[np.ndarray, "F 2"]
    is_target: Bool[np.ndarray, " F"]
    folders: tuple[str, ...]
    folder_of: Int[np.ndarray, " F"]
    name_bytes: bytes
    name_spans: Int[np.ndarray, "F 2"]
    unusual_names: Int[np.ndarray, " unusual"]
    box_starts: Int[np.ndarray, " F_plus_1"]
    boxes_xyxy: Float[np.ndarray, "M 4"]
    labels: Int[np.ndarray, " M"]
    instance_ids: Int[np.ndarray, " M"]
    is_crowd: Bool[np.ndarray, " M"]


def join(content: AnnotationFile) -> Tables:
    """Sorted, checked tables of a file's entries.

    Raises:
        DataError: no image or category; an id that is used twice or stands for nothing; two images
            for one frame of a video; no size; a box that is not finite or has a negative size.
    """
    images, videos, path = content.images, content.videos, content.path
    for section, count in (("images", len(images.ids)), ("categories", len(content.categories))):
        if not count:
            raise DataError(f"{path}: {section!r} is empty")
    video_of = _videos_of_images(content)
    frame_ids = _numbers(images.frame_ids)
    entries = np.lexsort((frame_ids, video_of))  # frame -> its image's entry
    _require_distinct_frames(content, video_of[entries], frame_ids[entries], entries)

    frame_of_entry = np.empty_like(entries)
    frame_of_entry[entries] = np.arange(len(entries))
    frames_of_boxes, boxes_xyxy, labels = _boxes(content, frame_of_entry)
    box_order = np.argsort(frames_of_boxes, kind="stable")
    boxes_per_frame = np.bincount(frames_of_boxes, minlength=len(entries))

    used, video_starts = np.unique(video_of[entries], return_index=True)
    listed = [int(video) for video in used if video < len(videos.ids)]
    name_ends = _numbers(images.name_ends)
    name_starts = np.concatenate([[0], name_ends[:-1]])
    return _read_only(
        Tables(
            video_names=tuple(videos.names[video] for video in listed),
            video_files=tuple(_video_file(videos.files[video]) for video in listed),
            video_starts=np.append(video_starts, len(entries)),
            image_ids=_numbers(images.ids)[entries],
            frame_ids=frame_ids[entries],
            sizes=_sizes(content, video_of)[entries],
            is_target=_numbers(images.is_target)[entries].astype(bool),
            folders=tuple(images.folders),
            folder_of=_numbers(images.folder_of)[entries],
            name_bytes=bytes(images.name_bytes),
            name_spans=np.stack([name_starts, name_ends], axis=1)[entries],
            unusual_names=frame_of_entry[_numbers(images.unusual_names)],
            box_starts=np.concatenate([[0], np.cumsum(boxes_per_frame)]),
            boxes_xyxy=boxes_xyxy[box_order],
            labels=labels[box_order],
            instance_ids=_numbers(content.annotations.instance_ids)[box_order],
            is_crowd=_numbers(content.annotations.is_crowd)[box_order].astype(bool),
        )
    )


def _videos_of_images(content: AnnotationFile) -> np.ndarray:
    """For each image the position of its video; images without one are counted on behind those."""
    path, images = content.path, content.images
    _require_unique(path, "images", _numbers(images.ids))
    video_ids = _numbers(content.videos.ids)
    _require_unique(path, "videos", video_ids)
    wanted = _numbers(images.video_ids)
    still = wanted == NO_VIDEO
    video_of = _find(video_ids, wanted)
    _refuse_unknown(path, "images", images.ids, "video_id", wanted, (video_of < 0) & ~still)
    video_of[still] = len(video_ids) + np.arange(still.sum())
    return video_of


def _require_distinct_frames(
    content: AnnotationFile, video_of: np.ndarray, frame_ids: np.ndarray, entries: np.ndarray
) -> None:
    """Refuse two images for one frame and, in a video file, a frame before the first."""
    videos = content.videos
    repeated = (np.diff(video_of) == 0) & (np.diff(frame_ids) == 0)
    if repeated.any():
        frame = int(repeated.argmax())
        first, second = entries[frame : frame + 2]
        raise DataError(
            f"{content.path}: images[{first}] and images[{second}]: both have frame_id "
            f"{frame_ids[frame]} in video {videos.names[video_of[frame]]!r}"
        )
    for frame in np.flatnonzero(frame_ids < 0).tolist():
        if video_of[frame] < len(videos.ids) and _video_file(videos.files[video_of[frame]]):
            raise DataError(
                f"{content.path}: images[{entries[frame]}]: frame_id: expected an index in the "
                f"video file, counted from 0, got {frame_ids[frame]}"
            )


def _sizes(content: AnnotationFile, video_of: np.ndarray) -> np.ndarray:
    """[F, 2] height and width of each image, from its video where the image has none."""
    images, videos = content.images, content.videos
    sizes = np.stack([_numbers(images.heights), _numbers(images.widths)], axis=1)
    of_videos = np.stack([_numbers(videos.heights), _numbers(videos.widths)], axis=1)
    lacking = (sizes == 0).any(axis=1) & (video_of < len(of_videos))
    sizes[lacking] = of_videos[video_of[lacking]]
    unknown = (sizes == 0).any(axis=1)
    if unknown.any():
        entry = int(unknown.argmax())
        raise DataError(
            f"{content.path}: images[{entry}] (id {images.ids[entry]}): 'height' and 'width' are "
            "missing, in its video too"
        )
    return sizes.astype(np.int32)


def _boxes(
    content: AnnotationFile, frame_of_entry: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of every annotation its frame, its box as xyxy and its label."""
    path, annotations = content.path, content.annotations
    _require_unique(path, "annotations", _numbers(annotations.ids))
    category_ids = np.array([category.id for category in content.categories])
    _require_unique(path, "categories", category_ids)
    names = np.array([category.name for category in content.categories])
    _require_unique(path, "categories", names, "name")  # models and data are matched by name

    wanted = _numbers(annotations.image_ids)
    entries = _find(_numbers(content.images.ids), wanted)
    _refuse_unknown(path, "annotations", annotations.ids, "image_id", wanted, entries < 0)
    wanted = _numbers(annotations.category_ids)
    labels = _find(category_ids, wanted)
    _refuse_unknown(path, "annotations", annotations.ids, "category_id", wanted, labels < 0)

    boxes_xywh = _numbers(annotations.boxes_xywh).reshape(-1, 4)
    with np.errstate(over="ignore", invalid="ignore"):
        corners = np.concatenate([boxes_xywh[:, :2], boxes_xywh[:, :2] + boxes_xywh[:, 2:]], axis=1)
        boxes_xyxy = corners.astype(np.float32)
    bad = ~np.isfinite(boxes_xyxy).all(axis=1) | (boxes_xywh[:, 2:] < 0).any(axis=1)
    if bad.any():
        position = int(bad.argmax())
        raise DataError(
            f"{path}: annotations[{position}] (id {annotations.ids[position]}): bbox: expected "
            "finite numbers [x, y, width, height] and no negative size, got "
            f"{boxes_xywh[position].tolist()}"
        )
    return frame_of_entry[entries], boxes_xyxy, labels


def _find(ids: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Position in `ids` of each wanted id, -1 where it is not there."""
    if not len(ids):
        return np.full(len(wanted), -1)
    order = np.argsort(ids)
    places = np.searchsorted(ids, wanted, sorter=order).clip(max=len(ids) - 1)
    positions = order[places]
    return np.where(ids[positions] == wanted, positions, -1)


def _refuse_unknown(
    path: Path, section: str, ids: array, key: str, wanted: np.ndarray, unknown: np.ndarray
) -> None:
    if unknown.any():
        position = int(unknown.argmax())
        known = {"video_id": "videos", "image_id": "images", "category_id": "categories"}[key]
        raise DataError(
            f"{path}: {section}[{position}] (id {ids[position]}): {key} {wanted[position]} is not "
            f"in {known!r} ({unknown.sum()} such entries)"
        )


def _require_unique(path: Path, section: str, values: np.ndarray, key: str = "id") -> None:
    order = np.argsort(values, kind="stable")
    repeated = values[order[1:]] == values[order[:-1]]
    if repeated.any():
        first, second = order[int(repeated.argmax()) :][:2]
        raise DataError(
            f"{path}: {section}[{first}] and [{second}] have the same {key} "
            f"{values[first].item()!r}"
        )


def _video_file(file_name: str | None) -> str | None:
    """`file_name` where it names a video, not a folder of images."""
    return file_name if file_name and VIDEO_FILE_NAME.search(file_name) else None


def _numbers(column: array) -> np.ndarray:
    """The column without a copy."""
    return np.frombuffer(column, dtype=_DTYPES[column.typecode])


def _read_only(tables: Tables) -> Tables:
    """Nobody who is given a view of the tables can change them."""
    for name in Tables.__slots__:
        value = getattr(tables, name)
        if isinstance(value, np.ndarray):
            value.setflags(write=False)
    return tables
