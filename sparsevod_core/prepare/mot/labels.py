"""MOT Challenge's folders: `SEQ/gt/gt.txt` beside `SEQ/img1/000001.jpg` or a video file.

A line of `gt.txt` is `frame, id, left, top, width, height, conf, class, visibility`. "All frame
numbers, target IDs and bounding boxes are 1-based" (motchallenge.net/instructions), so 1 is
subtracted from left and top, and from frame numbers in video files. If `gt/labels.txt` exists, CVAT
or Datumaro wrote the file: class names come from that list, and boxes are already 0-based
(datumaro, data_formats/mot.py).

- `conf` 0 marks a box to ignore. If the dataset has its class, it becomes a crowd box, neither
  trained on nor scored; otherwise it is skipped.
- MOT15 has 3D coordinates instead of a class: every object is a pedestrian.
- Class ids are kept. The names of MOT16, 17 and 20 are known; others come from `--classes`.
- Boxes extend beyond the frame by design and are clipped.
- MOT17 has three copies of each sequence, one for each detector; one copy is used.
"""

from __future__ import annotations

import configparser
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from sparsevod_core.data.annotation_file import is_video_file
from sparsevod_core.errors import DataError
from sparsevod_core.prepare.mot.parser import MotEntry, read_ground_truth
from sparsevod_core.prepare.reading.annotated import AnnotatedVideo, LabeledBox
from sparsevod_core.prepare.reading.class_names import categories_of, read_class_list
from sparsevod_core.prepare.reading.frame_names import ImageFrames, split_number
from sparsevod_core.prepare.reading.image_size import image_files
from sparsevod_core.prepare.reading.label_set import Hints, LabelSet, Split, find_by_split
from sparsevod_core.prepare.reading.media import (
    AnnotatedMedia,
    Media,
    VideoFrames,
    add_box,
    finish,
    open_media,
)
from sparsevod_core.reporting import Reporter

GROUND_TRUTH = "gt/gt.txt"
_CLASS_NAMES = (
    "pedestrian", "person on vehicle", "car", "bicycle", "motorbike", "non motorized vehicle",
    "static person", "distractor", "occluder", "occluder on the ground", "occluder full",
    "reflection", "crowd",
)  # fmt: skip
_DETECTOR = re.compile(r"-(DPM|FRCNN|SDP)$")


@dataclass(frozen=True, slots=True)
class MotSequence(AnnotatedMedia):
    """One sequence.

    Attributes:
        first_frame: Number of the media's frame 0 in the ground truth.
        origin: Coordinate of the leftmost and topmost pixel in the ground truth.
        num_frames: Number of frames according to `seqinfo.ini`; None without that file.
    """

    first_frame: int
    origin: int
    num_frames: int | None


def find_mot(root: Path, hints: Hints, reporter: Reporter) -> LabelSet:
    """Find the sequences in a folder, or in its `train` and `val`.

    Raises:
        DataError: No sequence with a ground truth, a class without a name, or an invalid
            `seqinfo.ini`.
    """
    folders = find_by_split(root, _sequence_folders)
    if not folders:
        raise DataError(f"{root}: no MOT sequence here: expected folders that hold {GROUND_TRUTH}")
    notes = []
    splits: dict[str, Split] = {}
    sequences: list[MotSequence] = []
    for split, found in folders.items():
        kept: dict[str, Path] = {}
        for folder in found:
            kept.setdefault(_DETECTOR.sub("", folder.name), folder)
        opened, problems = [], []
        for folder in kept.values():
            try:
                opened.append(_open_sequence(root, folder, hints))
            except DataError as error:
                problems.append(f"{error.message}, sequence skipped")
        splits[split] = Split(opened, problems)
        sequences += opened
        if copies := [folder.name for folder in found if folder not in kept.values()]:
            some = ", ".join(copies[:3])
            notes.append(f"skipping {len(copies)} copies of sequences for other detectors: {some}")
    names = _class_names(root, sequences, hints, reporter)
    return LabelSet(root, categories_of(names, root), splits, MotReader(root, names), notes)


@dataclass(frozen=True, slots=True)
class MotReader:
    """Reader of one sequence."""

    root: Path
    names: Mapping[int, str]

    def __call__(self, source: MotSequence) -> AnnotatedVideo:
        video = open_media(self.root, source.media)
        frames = {frame.number: frame for frame in video.frames}
        if source.num_frames not in (None, len(frames)):
            video.problems.append(
                f"{source.annotation.parent.parent / 'seqinfo.ini'}: seqLength is "
                f"{source.num_frames}, but {len(frames)} frames exist"
            )
        for number, entry in read_ground_truth(source.annotation):
            where = f"{source.annotation}:{number}"
            if isinstance(entry, str):
                video.problems.append(f"{where}: {entry}, skipped")
            elif entry.is_ignored and entry.class_id not in self.names:
                video.left_out["boxes marked to be ignored"] += 1
            elif entry.class_id not in self.names:
                video.problems.append(f"{where}: class {entry.class_id} has no name, skipped")
            elif entry.frame - source.first_frame not in frames:
                video.problems.append(f"{where}: frame {entry.frame} does not exist, skipped")
            else:
                frame = frames[entry.frame - source.first_frame]
                add_box(video, frame, _box(entry, source.origin), where, slack_px=math.inf)
        return finish(video)


def _box(entry: MotEntry, origin: int) -> LabeledBox:
    left, top, width, height = entry.box_ltwh
    left, top = left - origin, top - origin
    return LabeledBox(
        entry.class_id,
        (left, top, left + width, top + height),
        track=None if entry.is_ignored or entry.track < 0 else entry.track,
        occluded=entry.visibility < 0.5,
        is_crowd=entry.is_ignored,
    )


def _sequence_folders(root: Path) -> list[Path]:
    candidates = [root, *sorted(folder for folder in root.iterdir() if folder.is_dir())]
    return [folder for folder in candidates if (folder / GROUND_TRUTH).is_file()]


def _open_sequence(root: Path, folder: Path, hints: Hints) -> MotSequence:
    info = _read_seqinfo(folder / "seqinfo.ini")
    written_by_cvat = (folder / "gt" / "labels.txt").is_file()
    paths = image_files(folder / (info.get("imdir") or "img1"))
    numbered = ((split_number(path.stem)[1], path.relative_to(root).as_posix()) for path in paths)
    images = sorted((number, file) for number, file in numbered if number is not None)
    media: Media
    first_frame = 0
    if images:
        media = ImageFrames(folder.name, tuple(images))
    else:
        file = _video_file(root, folder)
        first_frame = 1 if hints.first_frame is None else hints.first_frame
        media = VideoFrames(folder.name, file.relative_to(root).as_posix())
    length = info.get("seqlength")
    return MotSequence(
        media,
        folder / GROUND_TRUTH,
        first_frame,
        origin=0 if written_by_cvat else 1,
        num_frames=None if length is None else int(length),
    )


def _read_seqinfo(path: Path) -> dict[str, str]:
    if not path.is_file():
        return {}
    parser = configparser.ConfigParser(interpolation=None)
    try:
        parser.read_string(path.read_text(encoding="utf-8-sig"))
        info = dict(parser["Sequence"])
    except (OSError, UnicodeDecodeError, configparser.Error, KeyError) as error:
        reason = str(error).splitlines()[0]
        raise DataError(f"{path}: expected a section [Sequence] with settings: {reason}") from error
    folder = info.get("imdir", "")
    if folder.startswith("/") or ".." in folder.split("/"):
        raise DataError(f"{path}: imDir {folder!r} is outside the sequence's folder")
    length = info.get("seqlength", "0")
    if not (length.isascii() and length.isdigit() and len(length) < 10):
        raise DataError(f"{path}: seqLength: expected an integer, got {length[:40]!r}")
    return info


def _video_file(root: Path, folder: Path) -> Path:
    """Return `SEQ.mp4` in or beside the sequence's folder, or the only video file in it."""
    inside = sorted(path for path in folder.iterdir() if is_video_file(path.name))
    beside = folder.parent.iterdir() if folder != root else []
    named = [path for path in (*inside, *sorted(beside)) if path.stem == folder.name]
    files = [path for path in named if is_video_file(path.name)] or inside
    if len(files) != 1:
        found = f"{len(files)} video files" if files else "neither"
        raise DataError(
            f"{folder}: expected frames in {folder.name}/img1 or a video file, found {found}"
        )
    return files[0]


def _class_names(
    root: Path, sequences: list[MotSequence], hints: Hints, reporter: Reporter
) -> dict[int, str]:
    if hints.classes is not None:
        return read_class_list(hints.classes, first_id=1)
    lists = [sequence.annotation.with_name("labels.txt") for sequence in sequences]
    lists = [path for path in lists if path.is_file()]
    if lists:
        names = read_class_list(lists[0], first_id=1)
        for path in lists[1:]:
            if read_class_list(path, first_id=1) != names:
                raise DataError(f"{path}: classes differ from those in {lists[0]}")
        return names
    used: set[int] = set()
    with reporter.progress("collecting classes", len(sequences), "sequences") as progress:
        for sequence in sequences:
            for _, entry in read_ground_truth(sequence.annotation):
                if isinstance(entry, MotEntry) and not entry.is_ignored:
                    used.add(entry.class_id)
            progress.advance(note=sequence.name)
    known = dict(enumerate(_CLASS_NAMES, start=1))
    if unknown := sorted(used - known.keys()):
        raise DataError(
            f"{root}: class {unknown[0]} is not a MOT Challenge class",
            hint="name the classes with --classes FILE, one `ID: NAME` per line",
        )
    return {class_id: known[class_id] for class_id in sorted(used)}
