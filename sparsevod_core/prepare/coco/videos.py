"""The videos of a COCO file: groups of its images, cut from the columns only when they are read."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import overload

import numpy as np
from jaxtyping import Float, Int

from sparsevod_core.data.annotation_columns import as_numbers
from sparsevod_core.data.annotation_file import is_video_file
from sparsevod_core.data.json_fields import MISSING
from sparsevod_core.prepare.coco.entries import CROWD, GENERATED, OCCLUDED, CocoEntries
from sparsevod_core.prepare.reading.annotated import AnnotatedFrame, LabeledBox
from sparsevod_core.prepare.reading.frame_groups import group_frames, lone_frames
from sparsevod_core.prepare.reading.frame_names import split_number, stem_of
from sparsevod_core.prepare.reading.label_set import Hints
from sparsevod_core.prepare.reading.media import inputs_of


@dataclass(frozen=True, slots=True)
class ImageGroup:
    """Images that form a video, or stills.

    Attributes:
        name: Name of the video.
        file: Video file that holds the frames; None for images.
        folder: Folder of the images, if `videos` names one.
        images: Positions in the file's columns, in order of time.
        numbers: Frame numbers as annotated; parallel to `images`.
        is_video: False for stills.
    """

    name: str
    file: str | None
    folder: str | None
    images: Int[np.ndarray, " n"]
    numbers: list[int]
    is_video: bool


def group_images(entries: CocoEntries, hints: Hints) -> list[ImageGroup]:
    """Return the videos of a file, in the order of `videos` or of names, then the stills.

    Images that belong nowhere are added to the file's problems, guesses to its notes.
    """
    images, of_video = np.flatnonzero(entries.is_usable).tolist(), entries.images.video_ids
    if not entries.video_of and all(of_video[image] == MISSING for image in images):
        return _by_name(entries, images, hints)
    by_id: defaultdict[int, list[int]] = defaultdict(list)
    for image in images:
        by_id[of_video[image]].append(image)
    stills = by_id.pop(MISSING, [])
    labels = dict(
        zip(by_id, map(str, entries.ids_of(np.array(list(by_id), np.int64))), strict=True)
    )
    by_label = {labels[id_]: id_ for id_ in by_id}
    groups = []
    for video_id in entries.video_of or sorted(by_id):
        name, file = entries.video_of.get(video_id, (labels.get(video_id, ""), None))
        # Some files name the video of an image, instead of giving its id.
        named = by_label.get(name, MISSING)
        if images := by_id.pop(video_id if video_id in by_id else named, []):
            groups.append(_group(entries, name, file, images))
    for video_id, images in by_id.items():
        reason = f"video_id {labels[video_id]} is not in 'videos' ({len(images)} such images)"
        entries.skip(f"image {entries.images.ids[images[0]]}", reason)
    return [*groups, _stills(stills, "stills")] if stills else groups


def alone(entries: CocoEntries, groups: Iterable[ImageGroup]) -> list[str]:
    """See `Split.alone`."""
    if entries.video_of or any(video_id != MISSING for video_id in entries.images.video_ids):
        return []  # the file says what the videos are
    names = entries.file_names
    return lone_frames(
        (group.name, [names[image] for image in group.images.tolist()])
        for group in groups
        if group.is_video
    )


def _group(
    entries: CocoEntries,
    name: str,
    file: str | None,
    images: list[int],
    by_name: Sequence[int] | None = None,
) -> ImageGroup:
    """Return a video's images in order of time; two for one frame become a problem.

    `by_name` are the frame numbers that the names give, if they are known already.
    """
    numbers = [entries.images.frame_ids[image] for image in images]
    if MISSING in numbers and by_name is not None:
        numbers = list(by_name)
    elif MISSING in numbers:
        from_names = [split_number(stem_of(entries.file_names[image]))[1] for image in images]
        numbers = [number for number in from_names if number is not None]
        if len(numbers) < len(images):
            numbers = list(range(len(images)))
            entries.notes.append(
                f"{entries.path.name}: {name} has neither frame numbers nor numbered names: its "
                f"{len(images)} images are frames in the file's order"
            )
    kept: dict[int, int] = {}
    for number, image in sorted(zip(numbers, images, strict=True)):
        if (first := kept.setdefault(number, image)) != image:
            ids = entries.images.ids
            reason = f"frame {number} of {name} is already image {ids[first]}"
            entries.skip(f"image {ids[image]}", reason)
    is_file = is_video_file(file)
    return ImageGroup(
        name,
        file if is_file else None,
        None if is_file else file,
        np.array(list(kept.values()), np.int64),
        list(kept),
        is_video=True,
    )


def _stills(images: list[int], name: str) -> ImageGroup:
    positions = np.array(images, np.int64)
    return ImageGroup(name, None, None, positions, list(range(len(images))), is_video=False)


def _by_name(entries: CocoEntries, images: list[int], hints: Hints) -> list[ImageGroup]:
    """Group images by their file names."""
    by_file: dict[str, int] = {}
    for image in images:
        name = entries.file_names[image]
        if (first := by_file.setdefault(name, image)) != image:
            reason = f"{name} is already image {entries.images.ids[first]}"
            entries.skip(f"image {entries.images.ids[image]}", reason)
    groups = []
    for group in group_frames(by_file, by_folder=hints.group_by_folder):
        positions = [by_file[file] for _, file in group.files]
        sign = "" if group.is_video else _sign_of_time(entries, positions)
        if sign:
            folder = group.name.removesuffix("stills").removesuffix("/") or "video"
            groups.append(_group(entries, folder, None, positions))
            entries.notes.append(
                f"{entries.path.name}: {len(positions)} images without a video are frames of one, "
                f"{folder}, because {sign}"
            )
        elif group.is_video:
            numbers = [number for number, _ in group.files]
            groups.append(_group(entries, group.name, None, positions, numbers))
        else:
            groups.append(_stills(positions, group.name))
    return groups


def _sign_of_time(entries: CocoEntries, images: list[int]) -> str:
    """Return what shows that images without a video are frames of one; "" if nothing does."""
    numbers = {entries.images.frame_ids[image] for image in images}
    if MISSING not in numbers:
        return "they have frame numbers" if len(numbers) == len(images) else ""
    stems = (stem_of(entries.file_names[image]) for image in images)
    if any(split_number(stem)[1] is None for stem in stems):
        return ""
    if entries.num_first == 1 and entries.num_linked:
        return "each has a `prev_image_id`"
    tracks = as_numbers(entries.annotations.instance_ids)
    in_images = np.isin(entries.image_of_box, images) & (tracks != MISSING)
    appearances = np.unique(
        np.stack([tracks[in_images], entries.image_of_box[in_images]], axis=1), axis=0
    )
    is_continued = len(np.unique(appearances[:, 0])) < len(appearances)
    return "boxes in several of them have the same track id" if is_continued else ""


@dataclass(frozen=True, slots=True)
class CocoVideo:
    """Images and annotations of one video. m annotations.

    Attributes:
        path: Path of the JSON.
        base: Folder below the root that file names start from, or "".
        name, file, folder, is_video: As in `ImageGroup`; `file` and `folder` start with `base`.
        first_frame: Number that the annotations give the first frame of `file`.
        frames: Frames as annotated, without boxes; width and height are 0 if one is missing.
        box_ends: End of each frame's annotations.
        boxes: Position in the file, class, track (or `MISSING`) and flags of each annotation.
        boxes_ltwh: Boxes in pixels.
    """

    path: Path
    base: str
    name: str
    file: str | None
    folder: str | None
    is_video: bool
    frames: list[AnnotatedFrame]
    box_ends: Int[np.ndarray, " n"]
    boxes: Int[np.ndarray, "m 4"]
    boxes_ltwh: Float[np.ndarray, "m 4"]
    first_frame: int = 0

    def inputs(self, every_file: bool) -> Iterator[str | Path]:
        """See `label_set.Source`."""
        yield self.path
        if self.file:
            yield self.file
        else:
            yield from inputs_of(map(self.file_name, self.frames), every_file)

    def file_name(self, frame: AnnotatedFrame) -> str:
        """Return a frame's file name, relative to the root."""
        return below(self.base, frame.file_name)

    def boxes_of(self, position: int) -> Iterator[tuple[int, LabeledBox]]:
        """Yield the boxes of the frame at `position`, each with its position in the file."""
        start = int(self.box_ends[position - 1]) if position else 0
        for row in range(start, int(self.box_ends[position])):
            place, class_id, track, flags = self.boxes[row].tolist()
            left, top, width, height = self.boxes_ltwh[row].tolist()
            box = LabeledBox(class_id, (left, top, left + width, top + height))
            box.track = None if track == MISSING else track
            box.occluded, box.generated = bool(flags & OCCLUDED), bool(flags & GENERATED)
            box.is_crowd = bool(flags & CROWD)
            yield place, box


class CocoVideos(Sequence[CocoVideo]):
    """The videos of a file.

    Args:
        entries: Columns of the file.
        groups: Images by video.
        base: Prefix of every name: "" or a folder below the root.
        first_frames: Number that the annotations give the first frame of each video file.
    """

    def __init__(
        self,
        entries: CocoEntries,
        groups: list[ImageGroup],
        base: str,
        first_frames: Mapping[str, int],
    ) -> None:
        self._entries = entries
        self._groups = groups
        self._base = base
        self._first_frames = first_frames
        images, annotations = entries.image_of_box, entries.annotations
        order = np.argsort(images, kind="stable")
        self._rows = order[np.searchsorted(images[order], 0) :]
        self._starts = np.searchsorted(
            images[self._rows], np.arange(len(entries.file_names.spans) + 1)
        )
        columns = (annotations.category_ids, annotations.instance_ids, entries.box_flags)
        self._boxes = np.stack([entries.box_positions, *map(as_numbers, columns)], axis=1)
        self._boxes_ltwh = as_numbers(annotations.boxes_xywh).reshape(-1, 4)

    def __repr__(self) -> str:
        names = [(group.name, group.file, len(group.numbers)) for group in self._groups]
        return f"CocoVideos({self._entries.path}, {self._base!r}, {names}, {self._first_frames})"

    def __len__(self) -> int:
        return len(self._groups)

    @overload
    def __getitem__(self, index: int) -> CocoVideo: ...
    @overload
    def __getitem__(self, index: slice) -> list[CocoVideo]: ...
    def __getitem__(self, index: int | slice) -> CocoVideo | list[CocoVideo]:
        if isinstance(index, slice):
            return [self[place] for place in range(*index.indices(len(self)))]
        group, entries = self._groups[index], self._entries
        file = group.file and below(self._base, group.file)
        images = group.images.tolist()
        spans = [self._rows[self._starts[image] : self._starts[image + 1]] for image in images]
        rows = np.concatenate([np.empty(0, np.int64), *spans])
        return CocoVideo(
            path=entries.path,
            base=self._base,
            name=group.name,
            file=file,
            first_frame=self._first_frames.get(file or "", 0),
            folder=group.folder and below(self._base, group.folder),
            is_video=group.is_video,
            frames=list(map(self._frame, images, group.numbers)),
            box_ends=np.cumsum([len(span) for span in spans]),
            boxes=self._boxes[rows],
            boxes_ltwh=self._boxes_ltwh[rows],
        )

    def _frame(self, image: int, number: int) -> AnnotatedFrame:
        images = self._entries.images
        target, width, height = images.is_target[image], images.widths[image], images.heights[image]
        return AnnotatedFrame(
            self._entries.file_names[image],
            number,
            width=width if height else 0,
            height=height if width else 0,
            boxes=[],
            is_target=None if target < 0 else bool(target),
            image_id=images.ids[image],
        )


def below(base: str, name: str) -> str:
    """Return a name in the folder `base`, which may be ""."""
    return f"{base}/{name}" if base else name
