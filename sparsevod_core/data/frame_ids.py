"""Ids that annotations give to the frames of a video file or folder, and to a model's classes."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

from sparsevod_core.category import Category
from sparsevod_core.data.class_match import ClassMatch
from sparsevod_core.data.records import VideoSet
from sparsevod_core.errors import DataError


class FrameIds:
    """Finds the frames of a set by their files, wherever links lead.

    Args:
        videos: The set.
    """

    def __init__(self, videos: VideoSet) -> None:
        self.videos = videos

    def match(self, categories: Sequence[Category]) -> ClassMatch:
        """Return the ids of a model's classes; errors as of `ClassMatch`."""
        ours = self.videos.categories
        names, ids = [one.name for one in ours], [one.id for one in ours]
        return ClassMatch(categories, self.videos.annotations_path, names, ids)

    def of_video(self, path: Path, size: tuple[int, int]) -> dict[int, int]:
        """Return the image id of each annotated frame of a video file, by index from 0.

        Args:
            path: Path of the file.
            size: Height and width of its frames in pixels.

        Raises:
            DataError: No frame of it is annotated, one has two ids, or has another size.
        """
        found = [
            (int(self.videos.tables.frame_ids[frame]), frame)
            for frame in self._frames_by_place.get(os.path.realpath(path), ())
        ]
        return self._checked(path, found, size)

    def of_images(self, files: Sequence[Path], size: tuple[int, int]) -> dict[int, int]:
        """Return the image id of each annotated image, by its position in `files`.

        Args:
            files: Images in one folder.
            size: Height and width of all of them in pixels.

        Raises:
            DataError: None of them is annotated, one has two ids, or has another size.
        """
        folder = files[0].parent
        position = {file.name: index for index, file in enumerate(files)}
        found = [
            (position[name], frame)
            for frame in self._frames_by_place.get(os.path.realpath(folder), ())
            if (name := self.videos.frame_path(frame)[0].name) in position
        ]
        return self._checked(folder, found, size)

    @cached_property
    def _frames_by_place(self) -> dict[str, list[int]]:
        """Frames by the path of their video file, or of the folder of their image file."""
        resolved: dict[Path, str] = {}
        frames: dict[str, list[int]] = {}
        for frame in range(self.videos.num_frames):
            path, index = self.videos.frame_path(frame)
            place = path.parent if index is None else path
            if place not in resolved:
                resolved[place] = os.path.realpath(place)
            frames.setdefault(resolved[place], []).append(frame)
        return frames

    def _checked(
        self, place: Path, found: Sequence[tuple[int, int]], size: tuple[int, int]
    ) -> dict[int, int]:
        """Return image ids by index, of pairs of an index and a frame of the set."""
        annotations = self.videos.annotations_path
        if not found:
            raise DataError(
                f"{place}: {annotations} has no frame of it; the first one there is "
                f"{self.videos.frame_name(0)}",
                hint="use --root if the videos are in another folder than the file says",
            )
        ids: dict[int, int] = {}
        for index, frame in found:
            if index in ids:
                raise DataError(
                    f"{annotations}: frame {index} of {place} is image {ids[index]} and image "
                    f"{self.videos.image_id(frame)}"
                )
            if self.videos.frame_size(frame) != size:
                theirs = "x".join(map(str, self.videos.frame_size(frame)))
                raise DataError(
                    f"{place}: frame {index} is {size[0]}x{size[1]} pixels (height x width), but "
                    f"{theirs} in {annotations}: boxes would not be at the same place",
                )
            ids[index] = self.videos.image_id(frame)
        return ids
