"""CVAT's exports of video tasks, "CVAT for video 1.1": an XML beside a video file or its frames.

    clip.xml  clip.mp4                       the file given by <source>, or one named like the XML
    annotations.xml  images/frame_000000.png exported with images

Coordinates are in pixels from 0, as written. Frames are numbered from 0 as in the entire video,
even if a task starts later or takes every n-th frame. A task has all frames from `start_frame` to
`stop_frame`, with or without boxes. CVAT exports a box for each of them. Boxes that are missing,
as in files of other tools, are filled in as by CVAT: linearly up to the next box, unchanged from
the last box to the end of the task. `outside="1"` ends a box.

An export of a project has several tasks, whose frames are numbered consecutively within a subset.
Classes are the labels, numbered from 1 in CVAT's order; `--classes` gives other numbers.

Source: docs.cvat.ai/docs/manual/advanced/xml_format; cvat/apps/dataset_manager (bindings.py,
ProjectData; annotation.py, TrackManager).
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from sparsevod_core.data.annotation_file import is_video_file
from sparsevod_core.errors import DataError
from sparsevod_core.prepare.cvat.parser import (
    CvatBox,
    CvatMeta,
    CvatTask,
    CvatTrack,
    read_meta,
    read_tracks,
)
from sparsevod_core.prepare.cvat.tracks import extent, fill_track
from sparsevod_core.prepare.reading.annotated import AnnotatedFrame, AnnotatedVideo, LabeledBox
from sparsevod_core.prepare.reading.class_names import categories_of, read_class_list
from sparsevod_core.prepare.reading.file_tree import image_files
from sparsevod_core.prepare.reading.frame_groups import ImageFrames
from sparsevod_core.prepare.reading.frame_names import split_number
from sparsevod_core.prepare.reading.label_set import Hints, LabelSet, Split
from sparsevod_core.prepare.reading.media import (
    AnnotatedMedia,
    Media,
    VideoFrames,
    add_box,
    finish,
    media_inputs,
    open_media,
    require_size,
)
from sparsevod_core.prepare.reading.split_names import find_by_split, split_named
from sparsevod_core.prepare.reading.strict_xml import root_element
from sparsevod_core.reporting import Reporter

_ROUNDING_PX = 1.0


@dataclass(frozen=True, slots=True)
class CvatVideo(AnnotatedMedia):
    """One task.

    Attributes:
        task: Id of the task if the file has several; "" for every track of the file.
        offset: Number to subtract from the frame numbers of the tracks.
        numbers: Numbers of the task's frames in the video.
        size: Height and width of the frames when they were labeled; zeros if they are not stated.
    """

    task: str
    offset: int
    numbers: range
    size: tuple[int, int]


def find_cvat(root: Path, hints: Hints, reporter: Reporter) -> LabelSet:
    """Find the tasks of one XML, or of all in a folder and in its folders such as `train`.

    Raises:
        DataError: No such file, no file with labels, or an invalid class list.
    """
    folder = root.parent if root.is_file() else root
    files = (
        {"all": [root]} if root.is_file() else find_by_split(folder, _xml_files, by_file_name=True)
    )
    if not files:
        raise DataError(f"{root}: no CVAT file here: expected an .xml with <annotations>")
    media_root = hints.images or folder
    found: dict[str, Split] = {}
    labels: dict[str, None] = {}
    for split, paths in files.items():
        for path in paths:
            _add_file(path, split, media_root, found, labels)
    problems = [problem for split in found.values() for problem in split.problems]
    if problems and not labels:
        raise DataError(problems[0].removesuffix(", file skipped"))
    _report_overlap(found)
    if hints.classes is not None:
        names = read_class_list(hints.classes, first_id=1)
    else:
        names = dict(enumerate(labels, start=1))
    ids = {name: class_id for class_id, name in names.items()}
    return LabelSet(media_root, categories_of(names, root), found, CvatReader(media_root, ids))


@dataclass(frozen=True, slots=True)
class CvatReader:
    """Reader of one task."""

    root: Path
    class_ids: Mapping[str, int]

    def __call__(self, source: CvatVideo) -> AnnotatedVideo:
        video = open_media(self.root, source.media)
        if all(source.size):
            require_size(self.root, video, source.size, f"{source.annotation}: <original_size> is")
        frames = {frame.number: frame for frame in video.frames}  # ascending
        if isinstance(source.media, ImageFrames) and len(source.media.files) < len(source.numbers):
            video.problems.append(
                f"{source.annotation}: the task has {len(source.numbers)} frames, but there are "
                f"{len(source.media.files)} images"
            )
        for track_id, track in enumerate(read_tracks(source.annotation)):
            if source.task in ("", track.task):
                self._add_track(source, video, frames, track_id, track)
        return finish(video)

    def _add_track(
        self,
        source: CvatVideo,
        video: AnnotatedVideo,
        frames: Mapping[int, AnnotatedFrame],
        track_id: int,
        track: CvatTrack,
    ) -> None:
        where = f"{source.annotation}:{track.line}"
        video.problems += track.problems
        if track.num_broken > len(track.problems):
            num_more = track.num_broken - len(track.problems)
            video.problems.append(
                f"{where}: {num_more} more boxes like these in the track, skipped"
            )
        if track.other_shapes:
            kinds = ", ".join(f"{count} {kind}" for kind, count in track.other_shapes.items())
            video.problems.append(
                f"{where}: {track.other_shapes.total()} shapes that are not boxes ({kinds}), "
                "skipped"
            )
        class_id = self.class_ids.get(track.label)
        if class_id is None:
            video.problems.append(f"{where}: unknown label {track.label[:40]!r}, track skipped")
            return
        # A missing or broken frame of the task has been reported already.
        if stray := [box for box in track.boxes if _is_stray(box, source)]:
            more = f" ({len(stray)} such boxes in the track)" if len(stray) > 1 else ""
            video.problems.append(
                f"{source.annotation}:{stray[0].line}: frame {stray[0].frame - source.offset} is "
                f"not in the task, skipped{more}"
            )
        for box, number in fill_track(track.boxes, list(frames), source.offset):
            place = f"{source.annotation}:{box.line}"
            labeled = LabeledBox(
                class_id,
                extent(box),
                track_id,
                occluded=box.is_occluded,
                generated=not box.is_keyframe,
            )
            slack_px = math.inf if box.rotation else _ROUNDING_PX
            add_box(video, frames[number], labeled, place, slack_px=slack_px)


def _is_stray(box: CvatBox, source: CvatVideo) -> bool:
    """Return True if the frame of a box is not in the task.

    A box that ends a track may be in the frame behind the last one, or between two of the task's.
    """
    number, numbers = box.frame - source.offset, source.numbers
    if box.is_outside:
        return not numbers.start <= number <= numbers[-1] + numbers.step
    return number not in numbers


def _xml_files(folder: Path) -> list[Path]:
    """Return the CVAT files in a folder, or one level below it."""
    paths = [*folder.glob("*.xml"), *folder.glob("*/*.xml")]
    return sorted(path for path in paths if root_element(path) == "annotations")


def _report_overlap(found: Mapping[str, Split]) -> None:
    """Report tasks of val that have frames of a task of train."""
    train: defaultdict[str, list[CvatVideo]] = defaultdict(list)
    for source in _tasks(found, "train"):
        for place in media_inputs(source.media, every_file=False):
            train[place].append(source)
    for source in _tasks(found, "val"):
        for place in media_inputs(source.media, every_file=False):
            for other in train[place]:
                start = max(source.numbers[0], other.numbers[0])
                if start <= min(source.numbers[-1], other.numbers[-1]):
                    found["val"].problems.append(
                        f"{source.annotation}: {place} is in train from frame {start} on, too "
                        f"({other.annotation}), so that validation scores too high"
                    )


def _tasks(found: Mapping[str, Split], split: str) -> list[CvatVideo]:
    sources = found[split].sources if split in found else ()
    return [source for source in sources if isinstance(source, CvatVideo)]


def _add_file(
    path: Path, split: str, root: Path, found: dict[str, Split], labels: dict[str, None]
) -> None:
    """Add the tasks of an XML to `found`, by split or subset, and its labels to `labels`."""
    try:
        meta = read_meta(path)
        used = meta.labels or sorted({track.label for track in read_tracks(path)})
        labels.update(dict.fromkeys(used))
    except DataError as error:
        found.setdefault(split, Split()).problems.append(f"{error.message}, file skipped")
        return
    ends: dict[str, int] = {}
    for task in sorted(meta.tasks, key=lambda task: task.number("id", 0)):
        subset = task.fields.get("subset", "")
        offset = ends.get(subset, 0)  # frames of the subset's earlier tasks
        ends[subset] = offset + task.number("start_frame", 0) + task.step * task.number("size", 0)
        named = split_named(subset) if split == "all" else None
        target = found.setdefault(named or split, Split())
        try:
            source = _open_task(path, meta, task, offset, root)
        except DataError as error:
            target.problems.append(f"{error.message}, task skipped")
            continue
        target.sources = [*target.sources, source]


def _open_task(path: Path, meta: CvatMeta, task: CvatTask, offset: int, root: Path) -> CvatVideo:
    is_project = len(meta.tasks) > 1
    start, size = task.number("start_frame", 0), task.number("size", 0)
    stop = task.number("stop_frame", start + task.step * (size - 1)) + 1
    numbers = range(start, stop, task.step)
    if not numbers:
        raise DataError(f"{path}: <meta> does not tell how many frames the task has")
    place = _find_media(path, task, root, is_project=is_project)
    if place is None:
        wanted = task.fields.get("source") or task.fields.get("name") or path.stem
        raise DataError(
            f"{path}: found neither the video {wanted[:80]!r} nor a folder with its frames"
        )
    name = place.relative_to(root).with_suffix("").as_posix()
    media: Media
    if place.is_dir():
        media = ImageFrames(path.stem if name == "." else name, _task_images(place, root, numbers))
    else:
        media = VideoFrames(name, place.relative_to(root).as_posix(), numbers)
    task_id = task.fields.get("id", "") if is_project else ""
    return CvatVideo(media, path, task_id, offset, numbers, task.size)


def _find_media(path: Path, task: CvatTask, root: Path, *, is_project: bool) -> Path | None:
    """Return the video file of a task, or the folder of its frames, always below the root.

    Raises:
        DataError: Several video files differ from the name only in their suffix.
    """
    texts = [task.fields.get("source", ""), task.fields.get("name", "")]
    names = [PurePosixPath(text.replace("\\", "/")).name for text in texts]
    names += [] if is_project else [path.stem]
    folders = [place / name for place in (path.parent, root) for name in ("", "videos", "images")]
    folders = [folder for folder in folders if folder.is_dir() and folder.is_relative_to(root)]
    for name in names:
        if name in ("", ".."):
            continue
        stems = {name, PurePosixPath(name).stem}
        for folder in folders:
            if _has_frames(folder / name):
                return folder / name
            alike = [place for place in sorted(folder.iterdir()) if place.stem in stems]
            alike = [place for place in alike if _has_frames(place)]
            if len(videos := [place.name for place in alike if place.is_file()]) > 1:
                raise DataError(
                    f"{path}: {name[:80]!r} can be any of {', '.join(videos)} in {folder} (move "
                    "the others away)"
                )
            if alike:
                return alike[0]
    images = path.parent / "images"
    return images if not is_project and images in folders and image_files(images) else None


def _has_frames(place: Path) -> bool:
    is_video = is_video_file(place.name) and place.is_file()
    return is_video or bool(image_files(place))


def _task_images(folder: Path, root: Path, numbers: range) -> tuple[tuple[int, str], ...]:
    """Return each frame of the task that has an image.

    CVAT exports `frame_000012.png` by number. Otherwise images are in the order of their names:
    one for each frame of the task, or all images from which the task was created.
    """
    paths = image_files(folder)
    by_number = {
        split_number(path.stem)[1]: path for path in paths if path.stem.startswith("frame_")
    }
    if numbers[0] not in by_number:
        is_complete = len(paths) == len(numbers)
        by_number = dict(zip(numbers if is_complete else range(len(paths)), paths, strict=True))
    return tuple(  # there are fewer images than a wrong `stop_frame` has numbers
        (number, by_number[number].relative_to(root).as_posix())
        for number in sorted(key for key in by_number if key is not None)
        if number in numbers
    )
