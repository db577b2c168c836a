"""Text files of MOT Challenge and its relatives: one file per sequence, one line per box.

`sequences.py` says where the files are, `columns.py` what their columns mean.

"All frame numbers, target IDs and bounding boxes are 1-based" (motchallenge.net/instructions), so 1
is subtracted from left and top. VisDrone and UAVDT count from 0, as do CVAT and Datumaro, which
write `gt/labels.txt` (datumaro, data_formats/mot.py): class names come from that list.

- `conf` 0 marks a box to ignore. If the dataset has its class, it becomes a crowd box, neither
  trained on nor scored; otherwise it is left out.
- Without a class column, every object is a pedestrian, or of the only class of `--classes`.
- Class ids are kept. The names of MOT16, 17 and 20, VisDrone and UAVDT are known; others come from
  `--classes`.
- Boxes extend beyond the frame by design and are clipped.
- MOT17 has three copies of each sequence, one for each detector; one copy is used.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

from sparsevod_core.errors import DataError
from sparsevod_core.prepare.mot.columns import COLUMNS_HINT, Columns, columns_of
from sparsevod_core.prepare.mot.parser import MotEntry, read_ground_truth
from sparsevod_core.prepare.mot.rows import Survey, survey
from sparsevod_core.prepare.mot.sequences import (
    GROUND_TRUTH,
    SequenceFiles,
    first_frames,
    label_files,
    open_sequence,
    sequence_name,
)
from sparsevod_core.prepare.reading.annotated import KEPT_AS_CROWD, AnnotatedVideo, LabeledBox
from sparsevod_core.prepare.reading.class_names import categories_of, read_class_list
from sparsevod_core.prepare.reading.label_set import Hints, LabelSet, Split
from sparsevod_core.prepare.reading.media import (
    AnnotatedMedia,
    VideoFrames,
    add_box,
    finish,
    open_media,
    require_size,
)
from sparsevod_core.prepare.reading.split_names import find_by_split
from sparsevod_core.reporting import Reporter

_DETECTOR = re.compile(r"-(DPM|FRCNN|SDP)$")
_IGNORED = "boxes marked to be ignored"
_CROWD = f"{_IGNORED}, {KEPT_AS_CROWD}"
KITTI_FOLDERS = ("label_02", "training/label_02")


@dataclass(frozen=True, slots=True)
class MotSequence(AnnotatedMedia):
    """One sequence.

    Attributes:
        columns: Meaning of the columns of the ground truth.
        shift: Number to add to a frame number of the ground truth to get the media's.
        num_frames: Number of frames according to `seqinfo.ini`; None without that file.
        size: Height and width of the frames according to it; None if they are not stated.
    """

    columns: Columns
    shift: int
    num_frames: int | None
    size: tuple[int, int] | None


def find_mot(root: Path, hints: Hints, reporter: Reporter) -> LabelSet:
    """Find the sequences in a folder, and in its folders such as `train`.

    Every label file is read twice: its values tell what the columns are.

    Raises:
        DataError: No sequence with a ground truth, columns or frame numbers that cannot be told, a
            class without a name, or an invalid `seqinfo.ini`.
    """
    by_split = find_by_split(root, label_files)
    if not by_split:
        if any((root / folder).is_dir() for folder in KITTI_FOLDERS):
            raise DataError(
                f"{root}: KITTI's tracking labels (label_02) are not read",
                hint=f"convert them to folders SEQ with {GROUND_TRUTH} and img1",
            )
        raise DataError(f"{root}: no MOT sequence here: expected folders that hold {GROUND_TRUTH}")
    notes: list[str] = []
    opened = {split: _open_all(root, found, notes) for split, found in by_split.items()}
    every = [sequence for sequences, _ in opened.values() for sequence in sequences]
    surveys = _survey_all(every, reporter)
    columns = columns_of(every, surveys)
    names = _class_names(root, every, surveys, columns, hints)
    columns = [_with_only_class(found, names) for found in columns]
    of_files, of_folders = first_frames(
        every, [found.frames for found in surveys], hints.first_frame
    )
    splits: dict[str, Split] = {}
    rest = iter(zip(every, columns, strict=True))
    for split, (sequences, problems) in opened.items():
        ready = [
            _sequence(sequence, found, of_files, of_folders)
            for sequence, found in islice(rest, len(sequences))
        ]
        splits[split] = Split(ready, problems)
    notes += dict.fromkeys(map(str, columns))
    if any(isinstance(sequence.media, VideoFrames) for sequence in every):
        notes.append(f"labels count the frames of a video file from {of_files}")
    if of_folders is not None:
        notes.append(f"labels count the first image of a sequence as frame {of_folders}")
    return LabelSet(root, categories_of(names, root), splits, MotReader(root, names), notes)


@dataclass(frozen=True, slots=True)
class MotReader:
    """Reader of one sequence."""

    root: Path
    names: Mapping[int, str]

    def __call__(self, source: MotSequence) -> AnnotatedVideo:
        video = open_media(self.root, source.media)
        info = source.annotation.parent.parent / "seqinfo.ini"
        if source.size is not None:
            require_size(self.root, video, source.size, f"imWidth and imHeight in {info} are")
        frames = {frame.number: frame for frame in video.frames}
        if source.num_frames not in (None, len(frames)):
            video.problems.append(
                f"{info}: seqLength is {source.num_frames}, but {len(frames)} frames exist"
            )
        columns = source.columns
        for number, entry in read_ground_truth(source.annotation, columns):
            where = f"{source.annotation}:{number}"
            if isinstance(entry, str):
                video.problems.append(f"{where}: {entry}, skipped")
            elif entry.class_id not in self.names:
                if reason := columns.left_out.get(entry.class_id, _IGNORED * entry.is_ignored):
                    video.left_out[reason] += 1
                else:
                    video.problems.append(f"{where}: class {entry.class_id} has no name, skipped")
            elif entry.frame + source.shift not in frames:
                video.problems.append(f"{where}: frame {entry.frame} does not exist, skipped")
            else:
                if entry.is_ignored:
                    video.left_out[_CROWD] += 1
                frame = frames[entry.frame + source.shift]
                add_box(video, frame, _box(entry, columns.origin), where, slack_px=math.inf)
        return finish(video)


def _box(entry: MotEntry, origin: int) -> LabeledBox:
    left, top, width, height = entry.box_ltwh
    left, top = left - origin, top - origin
    return LabeledBox(
        entry.class_id,
        (left, top, left + width, top + height),
        track=None if entry.is_ignored or entry.track < 0 else entry.track,
        occluded=entry.is_occluded,
        is_crowd=entry.is_ignored,
    )


def _open_all(
    root: Path, paths: Sequence[Path], notes: list[str]
) -> tuple[list[SequenceFiles], list[str]]:
    """Return the sequences of some label files, and a problem for each without frames."""
    kept: dict[str, Path] = {}
    for path in paths:
        kept.setdefault(_DETECTOR.sub("", sequence_name(path)), path)
    opened, problems = [], []
    for path in kept.values():
        try:
            opened.append(open_sequence(root, path))
        except DataError as error:
            problems.append(f"{error.message}, sequence skipped")
    if copies := [sequence_name(path) for path in paths if path not in kept.values()]:
        some = ", ".join(copies[:3])
        notes.append(f"skipping {len(copies)} copies of sequences for other detectors: {some}")
    return opened, problems


def _survey_all(sequences: Sequence[SequenceFiles], reporter: Reporter) -> list[Survey]:
    surveys = []
    with reporter.progress("surveying labels", len(sequences), "sequences") as progress:
        for sequence in sequences:
            surveys.append(survey(sequence.annotation))
            progress.advance(note=sequence.media.name)
    return surveys


def _sequence(
    files: SequenceFiles, columns: Columns, of_files: int, of_folders: int | None
) -> MotSequence:
    if isinstance(files.media, VideoFrames):
        shift = -of_files
    else:
        shift = 0 if of_folders is None else files.media.files[0][0] - of_folders
    return MotSequence(files.media, files.annotation, columns, shift, files.num_frames, files.size)


def _class_names(
    root: Path,
    sequences: Sequence[SequenceFiles],
    surveys: Sequence[Survey],
    columns: Sequence[Columns],
    hints: Hints,
) -> dict[int, str]:
    lists = [sequence.class_list for sequence in sequences if sequence.class_list is not None]
    if hints.classes is not None:
        names = read_class_list(hints.classes, first_id=1)
        if any(0 in found.left_out for found in columns) and names.get(1, "").startswith("ignored"):
            names = read_class_list(hints.classes, first_id=0)  # as VisDrone lists them
    elif lists:
        names = read_class_list(lists[0], first_id=1)
        for path in lists[1:]:
            if read_class_list(path, first_id=1) != names:
                raise DataError(f"{path}: classes differ from those in {lists[0]}")
    else:
        return _known_names(root, surveys, columns)
    if len(names) > 1:
        for sequence, found in zip(sequences, columns, strict=True):
            if found.index("class") is None:
                raise DataError(
                    f"{sequence.annotation}: no column with a class, but {len(names)} classes are "
                    f"named; columns: {', '.join(found.names)}",
                    hint=COLUMNS_HINT,
                )
    return names


def _known_names(
    root: Path, surveys: Sequence[Survey], columns: Sequence[Columns]
) -> dict[int, str]:
    """Return the names of the classes in use, which the benchmark gives."""
    kinds = {id(found.class_names): found for found in columns}
    if len(kinds) > 1:
        raise DataError(
            f"{root}: labels of {' and '.join(found.source for found in kinds.values())}, whose "
            "class numbers differ",
            hint="convert them one by one, or name the classes with --classes FILE",
        )
    used: set[int] = set()
    for found, values in zip(columns, surveys, strict=True):
        if values.values is not None:
            used |= found.used_classes(values.values)
    known = columns[0].class_names if columns else {}
    if unknown := sorted(used - known.keys()):
        raise DataError(
            f"{root}: class {unknown[0]} is not a class of {columns[0].source}",
            hint="name the classes with --classes FILE, one `ID: NAME` per line",
        )
    if not used and any(values.values for values in surveys):
        raise DataError(f"{root}: all boxes are marked to be ignored (conf 0)")
    return {class_id: known[class_id] for class_id in sorted(used)}


def _with_only_class(columns: Columns, names: Mapping[int, str]) -> Columns:
    """Return the columns with the only class that is named, for files without a class column."""
    return replace(columns, only_class=next(iter(names))) if len(names) == 1 else columns
