"""Videos, frames and boxes of an annotated data set, in arrays; no pixels.

The 1.1 million frames of ImageNet VID's training set take 0.13 GB, which loader processes share.
Python objects would take ten times that, and be copied into each process.
"""

from __future__ import annotations

import ctypes
import os
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float, Int

from sparsevod_core.category import Category
from sparsevod_core.data.annotation_file import AnnotationFile, read_annotation_file
from sparsevod_core.data.video_tables import Tables, join
from sparsevod_core.errors import DataError


@dataclass(frozen=True, slots=True)
class FrameBoxes:
    """Boxes of one frame. M boxes; M may be 0.

    Attributes:
        boxes_xyxy: Boxes in pixels, float32, as annotated: may leave the frame or have no area.
        labels: Positions in `VideoSet.categories`.
        instance_ids: Number of each object, the same through its video; -1 if not annotated.
        is_crowd: True for boxes around a group of objects (COCO's `iscrowd`).
    """

    boxes_xyxy: Float[np.ndarray, "M 4"]
    labels: Int[np.ndarray, " M"]
    instance_ids: Int[np.ndarray, " M"]
    is_crowd: Bool[np.ndarray, " M"]

    def __len__(self) -> int:
        return len(self.boxes_xyxy)


@dataclass(frozen=True, slots=True, eq=False)
class VideoSet:
    """Annotated videos, from `VideoSet.load`.

    Videos count from 0: those of the file, in its order and without those that have no frames, then
    one for each image that belongs to no video. Frames count from 0 through all videos: those of a
    video follow one another in the order of their `frame_id`.

    Attributes:
        annotations_path: Path of the JSON file.
        root: Absolute folder that file names start from and cannot leave.
        categories: Classes in the file's order; a label is a position in it.
        tables: Arrays of frames and boxes.
        content: The file's columns, kept by `load(for_scoring=True)` only.
    """

    annotations_path: Path
    root: Path
    categories: tuple[Category, ...]
    tables: Tables
    content: AnnotationFile | None = field(default=None, repr=False)

    @classmethod
    def load(
        cls, annotations: Path | str, root: Path | str | None = None, *, for_scoring: bool = False
    ) -> VideoSet:
        """Read a COCO-VID JSON file.

        Args:
            annotations: Path of the file.
            root: Folder that file names start from; None: the file's `info.root`, absolute or
                relative to the file's folder, or else the file's folder.
            for_scoring: If True, keep what scoring needs, so that `evaluate` need not read the file
                again: about 200 bytes per frame.

        Raises:
            DataError: unreadable file; an entry with a missing or invalid field; an id that is
                repeated or refers to nothing; a file name that leaves the root.
        """
        content = read_annotation_file(Path(annotations), for_scoring=for_scoring)
        videos = cls.of(content, root)
        if for_scoring:
            videos = replace(videos, content=content)
        del content
        # glibc would keep the freed memory, also in forked loader processes.
        if (trim := getattr(ctypes.CDLL(None), "malloc_trim", None)) is not None:
            trim(0)
        return videos

    @classmethod
    def of(cls, content: AnnotationFile, root: Path | str | None = None) -> VideoSet:
        """Return the set of a file read `for_frames`, with `root` and errors as in `load`."""
        if root is None:
            root = content.path.parent / (content.root or "")
        root = Path(os.path.normpath(Path(root).absolute()))
        tables = join(content)
        videos = cls(content.path, root, content.categories(), tables)
        first_frames = tables.video_starts[: len(tables.video_files)]
        for frame in np.concatenate([tables.unusual_names, first_frames]):
            videos.frame_path(int(frame))  # raises if a name leaves the root
        return videos

    @property
    def num_videos(self) -> int:
        return len(self.tables.video_starts) - 1

    @property
    def num_frames(self) -> int:
        return len(self.tables.image_ids)

    def video_name(self, video: int) -> str:
        """Return a video's name in the file, or the file name of an image without video."""
        if video < len(self.tables.video_names):
            return self.tables.video_names[video]
        return self.file_name(self.video_frames(video)[0])

    def video_frames(self, video: int) -> range:
        """Return the frames of a video in order of time, at least one."""
        starts = self.tables.video_starts
        return range(int(starts[video]), int(starts[video + 1]))

    def video_of(self, frame: int) -> int:
        """Return the video of a frame."""
        return int(np.searchsorted(self.tables.video_starts, frame, side="right")) - 1

    def image_id(self, frame: int) -> int:
        """Return the id of a frame in the file."""
        return int(self.tables.image_ids[frame])

    def frame_size(self, frame: int) -> tuple[int, int]:
        """Return height and width in pixels."""
        height, width = self.tables.sizes[frame].tolist()
        return height, width

    def target_frames(self) -> Int[np.ndarray, " targets"]:
        """Return the frames that are training targets (`is_vid_train_frame`, default: true)."""
        return np.flatnonzero(self.tables.is_target)

    def boxes(self, frame: int) -> FrameBoxes:
        """Return the boxes of a frame, as read-only views."""
        tables = self.tables
        span = slice(int(tables.box_starts[frame]), int(tables.box_starts[frame + 1]))
        return FrameBoxes(
            tables.boxes_xyxy[span],
            tables.labels[span],
            tables.instance_ids[span],
            tables.is_crowd[span],
        )

    def frame_path(self, frame: int) -> tuple[Path, int | None]:
        """Return a frame's image file and None, or its video file and the index in it.

        Raises:
            DataError: the file name leads out of the root.
        """
        video = self.video_of(frame)
        video_files = self.tables.video_files
        video_file = video_files[video] if video < len(video_files) else None
        name = self.file_name(frame) if video_file is None else video_file
        # Normalized, so that the path that is opened is the one that was checked.
        path = Path(os.path.normpath(self.root / name))
        if not path.is_relative_to(self.root):
            raise DataError(
                f"{self.annotations_path}: image id {self.image_id(frame)}: file name {name!r} "
                f"leaves the root {self.root}"
            )
        return path, None if video_file is None else int(self.tables.frame_ids[frame])

    def frame_name(self, frame: int) -> str:
        """Return a frame's place for people: `/data/a/000012.JPEG` or `/data/a.mp4 frame 12`."""
        path, index = self.frame_path(frame)
        return str(path) if index is None else f"{path} frame {index}"

    def file_name(self, frame: int) -> str:
        """Return the file name of a frame's image, relative to the root."""
        return self.tables.file_names[frame]
