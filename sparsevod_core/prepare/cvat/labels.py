"""CVAT's exports of video tasks, "CVAT for video 1.1": an XML beside a video file or its frames.

    clip.xml  clip.mp4                       the file that <source> names, or one of the XML's name
    annotations.xml  images/frame_000000.png exported with images

Coordinates are taken as written, in pixels from 0. Frames are numbered from 0 as in the whole
video, also where a task starts later or takes every n-th frame; a task's frames are all of its
`start_frame` to `stop_frame`, with or without a box. Exports hold a box for each of them; where
some are missing, as in files of other tools, they are filled in as CVAT itself does: linearly up to
the next box, and after the last one as it stands to the end of the task. `outside="1"` ends that.

An export of a project holds many tasks and counts their frames on, subset by subset. Classes are
the labels, numbered from 1 in CVAT's order; `--classes` gives other numbers.

Source: docs.cvat.ai/docs/manual/advanced/xml_format; cvat/apps/dataset_manager (bindings.py,
ProjectData; annotation.py, TrackManager).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from sparsevod_core.errors import DataError
from sparsevod_core.prepare.cvat.media import find_media, task_images
from sparsevod_core.prepare.cvat.tracks import extent, fill_track
from sparsevod_core.prepare.cvat.xml_reader import (
    CvatMeta,
    CvatTask,
    CvatTrack,
    read_meta,
    read_tracks,
)
from sparsevod_core.prepare.reading.annotated import AnnotatedFrame, AnnotatedVideo, LabelledBox
from sparsevod_core.prepare.reading.class_names import categories_of, read_class_list
from sparsevod_core.prepare.reading.frame_names import ImageFrames
from sparsevod_core.prepare.reading.label_set import (
    SPLIT_NAMES,
    Hints,
    LabelSet,
    Split,
    split_folders,
)
from sparsevod_core.prepare.reading.media import (
    Media,
    VideoFrames,
    add_box,
    finish,
    media_inputs,
    open_media,
)
from sparsevod_core.reporting import Reporter

_ROUNDING_PX = 1.0


@dataclass(frozen=True, slots=True)
class CvatVideo:
    """One task.

    Attributes:
        xml: the file.
        task: its id where the file holds several; "" takes every track.
        offset: what is to be taken off the frame numbers of its tracks.
        numbers: its frames in the video.
        media: where they are.
    """

    xml: Path
    task: str
    offset: int
    numbers: range
    media: Media

    @property
    def name(self) -> str:
        return self.media.name

    def inputs(self, every_file: bool) -> Iterator[str | Path]:
        """See `label_set.Source`."""
        yield self.xml
        yield from media_inputs(self.media, every_file)


def find_cvat(root: Path, hints: Hints, reporter: Reporter) -> LabelSet:
    """The tasks of one XML, or of all in a folder, or in its `train` and `val`.

    Raises:
        DataError: no such file, or a class list that cannot be used.
    """
    folder = root.parent if root.is_file() else root
    files = {"all": [root] if root.is_file() else _xml_files(folder)}
    if not files["all"]:
        files = {split: _xml_files(place) for split, place in split_folders(folder).items()}
    if not any(files.values()):
        raise DataError(f"{root}: no CVAT file here: expected an .xml that begins <annotations>")
    media_root = hints.images or folder
    found: dict[str, Split] = {}
    labels: dict[str, None] = {}
    for split, paths in files.items():
        for path in paths:
            _add_file(path, split, media_root, found, labels)
    found = _by_subset(found)
    if hints.classes is not None:
        names = read_class_list(hints.classes, first_id=1)
    else:
        names = dict(enumerate(labels, start=1))
    ids = {name: class_id for class_id, name in names.items()}
    return LabelSet(media_root, categories_of(names, root), found, CvatReader(media_root, ids))


@dataclass(frozen=True, slots=True)
class CvatReader:
    """Reads one task."""

    root: Path
    class_ids: Mapping[str, int]

    def __call__(self, source: CvatVideo) -> AnnotatedVideo:
        video = open_media(self.root, source.media)
        frames = {frame.number: frame for frame in video.frames}
        if isinstance(source.media, ImageFrames) and len(source.media.files) < len(source.numbers):
            video.problems.append(
                f"{source.xml}: {len(source.numbers)} frames in the task, but "
                f"{len(source.media.files)} images"
            )
        for track_id, track in enumerate(read_tracks(source.xml)):
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
        where = f"{source.xml}:{track.line}"
        video.problems += track.problems
        if track.num_other_shapes:
            video.problems.append(
                f"{where}: {track.num_other_shapes} shapes that are no boxes, left out"
            )
        class_id = self.class_ids.get(track.label)
        if class_id is None:
            video.problems.append(f"{where}: unknown label {track.label[:40]!r}, track left out")
            return
        for box, number in fill_track(track.boxes, source.numbers, source.offset):
            place = f"{source.xml}:{box.line}"
            if number not in frames:
                # Of a frame that is broken or not there itself no more need be said.
                if number not in source.numbers:
                    video.problems.append(
                        f"{place}: frame {number} is not one of the task's, left out"
                    )
                continue
            labelled = LabelledBox(
                class_id,
                extent(box),
                track_id,
                occluded=box.is_occluded,
                generated=not box.is_keyframe,
            )
            slack_px = math.inf if box.rotation else _ROUNDING_PX
            add_box(video, frames[number], labelled, place, slack_px=slack_px)


def _xml_files(folder: Path) -> list[Path]:
    """CVAT files in a folder, or one level below it."""
    paths = [*folder.glob("*.xml"), *folder.glob("*/*.xml")]
    return sorted(path for path in paths if root_element(path) == "annotations")


def root_element(path: Path) -> str:
    """The name of an XML file's outermost element, as far as a glance shows it; else ""."""
    try:
        with path.open("rb") as file:
            head = file.read(4096)
    except OSError:
        return ""
    for piece in head.split(b"<")[1:]:
        if not piece.startswith((b"?", b"!")):
            words = piece.replace(b">", b" ").replace(b"/", b" ").split(maxsplit=1)
            return words[0].decode(errors="replace") if words else ""
    return ""


def _add_file(
    path: Path, split: str, root: Path, found: dict[str, Split], labels: dict[str, None]
) -> None:
    """Add the tasks of an XML to `found`, by split and subset, and its labels to `labels`."""
    try:
        meta = read_meta(path)
        used = meta.labels or sorted({track.label for track in read_tracks(path)})
        labels.update(dict.fromkeys(used))
    except DataError as error:
        found.setdefault(split, Split()).problems.append(f"{error.message}, file left out")
        return
    for task, offset in _with_offsets(meta):
        subset = task.fields.get("subset", "").lower()
        key = next((key for key, names in SPLIT_NAMES.items() if subset in names), split)
        target = found.setdefault(split if split != "all" else key, Split())
        try:
            source = _video(path, meta, task, offset, root)
        except DataError as error:
            target.problems.append(f"{error.message}, task left out")
            continue
        target.sources = [*target.sources, source]


def _with_offsets(meta: CvatMeta) -> Iterator[tuple[CvatTask, int]]:
    """Each task, and what its frame numbers begin after: those of earlier tasks of its subset."""
    ends: dict[str, int] = {}
    for task in sorted(meta.tasks, key=lambda task: task.number("id", 0)):
        subset = task.fields.get("subset", "")
        offset = ends.get(subset, 0)
        ends[subset] = offset + task.number("start_frame", 0) + task.step * task.number("size", 0)
        yield task, offset


def _video(path: Path, meta: CvatMeta, task: CvatTask, offset: int, root: Path) -> CvatVideo:
    is_project = len(meta.tasks) > 1
    start, size = task.number("start_frame", 0), task.number("size", 0)
    stop = task.number("stop_frame", start + task.step * (size - 1)) + 1
    numbers = range(start, stop, task.step)
    if not numbers:
        raise DataError(f"{path}: <meta> does not say how many frames the task has")
    place = find_media(path, task, root, alone=not is_project)
    if place is None:
        wanted = task.fields.get("source") or task.fields.get("name") or path.stem
        raise DataError(
            f"{path}: neither the video {wanted[:80]!r} nor a folder with its frames lies beside it"
        )
    name = place.relative_to(root).with_suffix("").as_posix()
    media: Media
    if place.is_dir():
        media = ImageFrames(path.stem if name == "." else name, task_images(place, root, numbers))
    else:
        media = VideoFrames(name, place.relative_to(root).as_posix(), numbers)
    task_id = task.fields.get("id", "") if is_project else ""
    return CvatVideo(path, task_id, offset, numbers, media)


def _by_subset(found: dict[str, Split]) -> dict[str, Split]:
    """`train` and `val` where CVAT's subsets give both, else everything as `all`."""
    if {"train", "val"} <= found.keys():
        return found
    merged = Split()
    for split in found.values():
        merged.sources = [*merged.sources, *split.sources]
        merged.problems += split.problems
    return {"all": merged}
