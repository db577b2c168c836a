"""MOT Challenge's folders: `SEQ/gt/gt.txt` beside `SEQ/img1/000001.jpg` or a video file.

A line is `frame, id, left, top, width, height, conf, class, visibility`. "All frame numbers, target
IDs and bounding boxes are 1-based" (motchallenge.net/instructions), so 1 is taken off frame numbers
in video files and off left and top. Where `gt/labels.txt` is there, CVAT or Datumaro wrote the
file: names come from that list, and boxes count from 0 already (datumaro, data_formats/mot.py).

`conf` 0 marks what is not to be counted: it becomes a crowd box, neither learned nor counted, where
its class is one of the data set's, and is left out otherwise. MOT15 has no class column (it has
three coordinates in its place): all are pedestrians. Class ids stay as they are in the file; the
names of MOT16, 17 and 20 are known, others come from `--classes`. Boxes go on beyond the frame by
design and are clipped. MOT17 has each sequence three times, once for each detector: one is taken.
"""

from __future__ import annotations

import configparser
import math
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from sparsevod_core.data.annotation_join import VIDEO_FILE_NAME
from sparsevod_core.errors import DataError
from sparsevod_core.prepare.mot.ground_truth import MotEntry, read_ground_truth
from sparsevod_core.prepare.reading.annotated import AnnotatedVideo, LabelledBox
from sparsevod_core.prepare.reading.class_names import categories_of, read_class_list
from sparsevod_core.prepare.reading.frame_names import ImageFrames, split_number
from sparsevod_core.prepare.reading.image_size import IMAGE_SUFFIXES
from sparsevod_core.prepare.reading.label_set import Hints, LabelSet, Split, split_folders
from sparsevod_core.prepare.reading.media import (
    Media,
    VideoFrames,
    add_box,
    finish,
    media_inputs,
    open_media,
)
from sparsevod_core.reporting import Reporter

GROUND_TRUTH = "gt/gt.txt"
_NAMES = dict(
    enumerate(
        (
            "pedestrian",
            "person on vehicle",
            "car",
            "bicycle",
            "motorbike",
            "non motorized vehicle",
            "static person",
            "distractor",
            "occluder",
            "occluder on the ground",
            "occluder full",
            "reflection",
            "crowd",
        ),
        start=1,
    )
)
_DETECTOR = re.compile(r"-(DPM|FRCNN|SDP)$")


@dataclass(frozen=True, slots=True)
class MotSequence:
    """One sequence.

    Attributes:
        media: its frames, numbered as in the ground truth less `first_frame`.
        ground_truth: path of its `gt.txt`.
        first_frame: the ground truth's number of the media's frame 0.
        origin: the ground truth's number of the leftmost and topmost pixel.
        num_frames: as `seqinfo.ini` says; None without it.
    """

    media: Media
    ground_truth: Path
    first_frame: int
    origin: int
    num_frames: int | None

    @property
    def name(self) -> str:
        return self.media.name

    def inputs(self, every_file: bool) -> Iterator[str | Path]:
        """See `label_set.Source`."""
        yield self.ground_truth
        yield from media_inputs(self.media, every_file)


def find_mot(root: Path, hints: Hints, reporter: Reporter) -> LabelSet:
    """The sequences in a folder, or of its `train` and `val`.

    Raises:
        DataError: no sequence with a ground truth, a class without a name, or a `seqinfo.ini` that
            cannot be used.
    """
    folders = {"all": _sequence_folders(root)}
    if not folders["all"]:
        places = split_folders(root)
        folders = {split: found for split in places if (found := _sequence_folders(places[split]))}
    if not any(folders.values()):
        raise DataError(f"{root}: no MOT sequence here: expected folders with {GROUND_TRUTH} in it")
    notes = []
    splits: dict[str, Split] = {}
    sequences: list[MotSequence] = []
    for split, found in folders.items():
        kept, left_out = _without_copies(found)
        opened, problems = _open_sequences(root, kept, hints)
        splits[split] = Split(opened, problems)
        sequences += opened
        if left_out:
            some = ", ".join(folder.name for folder in left_out[:3])
            notes.append(f"{len(left_out)} copies for other detectors left out: {some}")
    names = _class_names(root, sequences, hints, reporter)
    return LabelSet(root, categories_of(names, root), splits, MotReader(root, names), notes)


@dataclass(frozen=True, slots=True)
class MotReader:
    """Reads one sequence."""

    root: Path
    names: Mapping[int, str]

    def __call__(self, source: MotSequence) -> AnnotatedVideo:
        video = open_media(self.root, source.media)
        frames = {frame.number: frame for frame in video.frames}
        if source.num_frames not in (None, len(frames)):
            video.problems.append(
                f"{source.ground_truth.parent.parent / 'seqinfo.ini'}: seqLength is "
                f"{source.num_frames}, but {len(frames)} frames are there"
            )
        for number, entry in read_ground_truth(source.ground_truth):
            where = f"{source.ground_truth}:{number}"
            if isinstance(entry, str):
                video.problems.append(f"{where}: {entry}, left out")
            elif not entry.counts and entry.class_id not in self.names:
                video.num_other_boxes += 1
            elif entry.class_id not in self.names:
                video.problems.append(f"{where}: class {entry.class_id} has no name, left out")
            elif entry.frame - source.first_frame not in frames:
                video.problems.append(f"{where}: there is no frame {entry.frame}, left out")
            else:
                frame = frames[entry.frame - source.first_frame]
                add_box(video, frame, _box(entry, source.origin), where, slack_px=math.inf)
        return finish(video)


def _box(entry: MotEntry, origin: int) -> LabelledBox:
    left, top, width, height = entry.box_ltwh
    left, top = left - origin, top - origin
    return LabelledBox(
        entry.class_id,
        (left, top, left + width, top + height),
        track=entry.track if entry.counts and entry.track >= 0 else None,
        occluded=entry.visibility < 0.5,
        is_crowd=not entry.counts,
    )


def _sequence_folders(root: Path) -> list[Path]:
    candidates = [root, *sorted(folder for folder in root.iterdir() if folder.is_dir())]
    return [folder for folder in candidates if (folder / GROUND_TRUTH).is_file()]


def _without_copies(folders: list[Path]) -> tuple[list[Path], list[Path]]:
    by_name: defaultdict[str, list[Path]] = defaultdict(list)
    for folder in folders:
        by_name[_DETECTOR.sub("", folder.name)].append(folder)
    kept = [copies[0] for copies in by_name.values()]
    return kept, [folder for copies in by_name.values() for folder in copies[1:]]


def _open_sequences(
    root: Path, folders: list[Path], hints: Hints
) -> tuple[list[MotSequence], list[str]]:
    """The sequences that can be used, and what is wrong with others."""
    sequences, problems = [], []
    for folder in folders:
        try:
            sequences.append(_sequence(root, folder, hints))
        except DataError as error:
            problems.append(f"{error.message}, sequence left out")
    return sequences, problems


def _sequence(root: Path, folder: Path, hints: Hints) -> MotSequence:
    info = _read_seqinfo(folder / "seqinfo.ini")
    written_by_cvat = (folder / "gt" / "labels.txt").is_file()
    images = _images(folder / (info.get("imdir") or "img1"))
    name = folder.name
    media: Media
    first_frame = 0
    if images:
        relative = [(number, path.relative_to(root).as_posix()) for number, path in images]
        media = ImageFrames(name, tuple(relative))
    else:
        file = _video_file(root, folder)
        first_frame = 1 if hints.first_frame is None else hints.first_frame
        media = VideoFrames(name, file.relative_to(root).as_posix())
    length = info.get("seqlength")
    return MotSequence(
        media,
        folder / GROUND_TRUTH,
        first_frame,
        origin=0 if written_by_cvat else 1,
        num_frames=int(length) if length is not None else None,
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
        raise DataError(f"{path}: imDir {folder!r} leaves the sequence's folder")
    length = info.get("seqlength", "0")
    if not (length.isascii() and length.isdigit()):
        raise DataError(f"{path}: seqLength is {length[:40]!r}, expected a whole number")
    return info


def _images(folder: Path) -> list[tuple[int, Path]]:
    if not folder.is_dir():
        return []
    paths = (path for path in folder.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES)
    numbered = ((split_number(path.stem)[1], path) for path in paths)
    return sorted((number, path) for number, path in numbered if number is not None)


def _video_file(root: Path, folder: Path) -> Path:
    """`SEQ.mp4` in the sequence's folder or beside it, or the only video file in the folder."""
    inside = sorted(path for path in folder.iterdir() if VIDEO_FILE_NAME.search(path.name))
    beside = folder.parent.iterdir() if folder != root else []
    named = [path for path in (*inside, *sorted(beside)) if path.stem == folder.name]
    files = [path for path in named if VIDEO_FILE_NAME.search(path.name)] or inside
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
    lists = [sequence.ground_truth.with_name("labels.txt") for sequence in sequences]
    lists = [path for path in lists if path.is_file()]
    if lists:
        names = read_class_list(lists[0], first_id=1)
        for path in lists[1:]:
            if read_class_list(path, first_id=1) != names:
                raise DataError(f"{path}: other classes than in {lists[0]}")
        return names
    used: set[int] = set()
    with reporter.progress("looking for classes", len(sequences), "sequences") as progress:
        for sequence in sequences:
            for _, entry in read_ground_truth(sequence.ground_truth):
                if isinstance(entry, MotEntry) and entry.counts:
                    used.add(entry.class_id)
            progress.advance(note=sequence.name)
    unknown = sorted(used - _NAMES.keys())
    if unknown:
        raise DataError(
            f"{root}: class {unknown[0]} is not one of MOT Challenge's",
            hint="name the classes with --classes FILE, a line `ID: NAME` each",
        )
    return {class_id: _NAMES[class_id] for class_id in sorted(used)}
