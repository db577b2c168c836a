"""Sequences of MOT data sets: their label file, their frames, and how the labels number these.

SEQ/gt/gt.txt        SEQ/img1/000001.jpg, SEQ.mp4 or SEQ/SEQ.mp4     MOT Challenge, CVAT
annotations/SEQ.txt  sequences/SEQ/0000001.jpg                       VisDrone
"""

from __future__ import annotations

import configparser
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from sparsevod_core.errors import DataError
from sparsevod_core.prepare.reading.file_tree import files_in, image_files, video_files
from sparsevod_core.prepare.reading.frame_groups import ImageFrames
from sparsevod_core.prepare.reading.frame_names import split_number
from sparsevod_core.prepare.reading.media import Media, VideoFrames
from sparsevod_core.prepare.reading.text_file import read_text

GROUND_TRUTH = "gt/gt.txt"
_LABELS, _FRAMES = "annotations", "sequences"  # VisDrone
_FIRST_FRAME_HINT = (
    "use --first-frame 1 if the labels count the first frame as 1, or --first-frame 0 if they use "
    "the numbers in the names"
)


@dataclass(frozen=True, slots=True)
class SequenceFiles:
    """Files of one sequence.

    Attributes:
        annotation: Path of the label file.
        class_list: `gt/labels.txt`, which CVAT and Datumaro write; None without it.
        media: Frames.
        num_frames: Number of frames according to `seqinfo.ini`; None without that file.
        size: Height and width of the frames according to it; None if they are not stated.
        is_numbered: Whether all names of images are only digits.
    """

    annotation: Path
    class_list: Path | None
    media: Media
    num_frames: int | None
    size: tuple[int, int] | None
    is_numbered: bool


def label_files(root: Path) -> list[Path]:
    """Return the label files of the sequences in a folder."""
    if (root / _LABELS).is_dir() and (root / _FRAMES).is_dir():
        return files_in(root / _LABELS, ".txt")
    candidates = [root, *sorted(folder for folder in root.iterdir() if folder.is_dir())]
    return [path for folder in candidates if (path := folder / GROUND_TRUTH).is_file()]


def sequence_name(label_file: Path) -> str:
    """Return the name of the sequence that a label file belongs to."""
    is_visdrone = label_file.parent.name == _LABELS
    return label_file.stem if is_visdrone else label_file.parent.parent.name


def open_sequence(root: Path, label_file: Path) -> SequenceFiles:
    """Find the frames of a sequence.

    Raises:
        DataError: No frames, or an invalid `seqinfo.ini`.
    """
    name = sequence_name(label_file)
    class_list, info = None, {}
    if label_file.parent.name == _LABELS:
        folder = images = label_file.parent.parent / _FRAMES / name
        if not folder.is_dir():
            raise DataError(f"{folder}: no such folder, though {label_file} exists")
    else:
        folder = label_file.parent.parent
        info = _read_seqinfo(folder / "seqinfo.ini")
        images = folder / (info.get("imdir") or "img1")
        listed = label_file.with_name("labels.txt")
        class_list = listed if listed.is_file() else None
    stems = {path.relative_to(root).as_posix(): path.stem for path in image_files(images)}
    numbered = ((split_number(stem)[1], file) for file, stem in stems.items())
    frames = sorted((number, file) for number, file in numbered if number is not None)
    media: Media
    if frames:
        media = ImageFrames(name, tuple(frames))
    else:
        media = VideoFrames(name, _video_file(root, folder).relative_to(root).as_posix())
    length = info.get("seqlength")
    return SequenceFiles(
        label_file,
        class_list,
        media,
        num_frames=None if length is None else int(length),
        size=size if all(size := (_pixels(info, "imheight"), _pixels(info, "imwidth"))) else None,
        is_numbered=all(stem.isdigit() for stem in stems.values()),
    )


def first_frames(
    sequences: Sequence[SequenceFiles],
    labeled: Sequence[tuple[int, int]],
    hint: int | None,
) -> tuple[int, int | None]:
    """Return the numbers that labels give the first frame of a video file, and of a folder.

    None: labels use the numbers in the names of the images. MOT Challenge counts from 1, as do its
    names. Elsewhere, the first and the last frame with a label, `labeled`, tell.

    Raises:
        DataError: Labels could use the names or count from 0 or 1, or fit none of these.
    """
    pairs = list(zip(sequences, labeled, strict=True))
    pairs = [(sequence, labels) for sequence, labels in pairs if labels[0] <= labels[1]]
    in_files = [labels for sequence, labels in pairs if isinstance(sequence.media, VideoFrames)]
    in_folders = [
        _Numbers(sequence, sequence.media.files[0][0], sequence.media.files[-1][0], *labels)
        for sequence, labels in pairs
        if isinstance(sequence.media, ImageFrames)
    ]
    of_files = int(all(labels[0] != 0 for labels in in_files)) if hint is None else hint
    return of_files, _first_of_folders(in_folders) if hint is None else hint


class _Numbers(NamedTuple):
    """First and last number in the names of images, and of the frames with labels."""

    sequence: SequenceFiles
    first: int
    last: int
    first_labeled: int
    last_labeled: int

    def fits(self, first: int | None) -> bool:
        """Return True if every label has a frame when the first frame has this number."""
        shift = 0 if first is None else self.first - first
        return self.first <= self.first_labeled + shift and self.last_labeled + shift <= self.last


def _first_of_folders(folders: list[_Numbers]) -> int | None:
    def fits(first: int | None) -> bool:
        return all(numbers.fits(first) for numbers in folders)

    starts = {numbers.first for numbers in folders}
    has_zero = any(numbers.first_labeled == 0 for numbers in folders)
    if not starts:
        return None
    if starts == {1} and not has_zero:
        return None
    if starts == {1} and fits(0):
        return 0
    if starts == {0} and not has_zero:
        if fits(1) and not fits(None):
            return 1
        if all(numbers.sequence.class_list for numbers in folders):
            # Datumaro, and CVAT with it: the name if it is a number, or else the position from 1.
            return None if all(numbers.sequence.is_numbered for numbers in folders) else 1
    elif starts != {1} and (fitting := [first for first in (None, 1, 0) if fits(first)]):
        return fitting[0]
    first = folders[0]
    raise DataError(
        f"{first.sequence.annotation}: cannot tell which frame a label belongs to: images are "
        f"numbered {first.first} to {first.last}, labels {first.first_labeled} to "
        f"{first.last_labeled}",
        hint=_FIRST_FRAME_HINT,
    )


def _read_seqinfo(path: Path) -> dict[str, str]:
    if not path.is_file():
        return {}
    parser = configparser.ConfigParser(interpolation=None)
    try:
        parser.read_string(read_text(path))
        info = dict(parser["Sequence"])
    except (configparser.Error, KeyError) as error:
        reason = str(error).splitlines()[0]
        raise DataError(f"{path}: expected a section [Sequence] with settings: {reason}") from error
    folder = info.get("imdir", "")
    if folder.startswith("/") or ".." in folder.split("/"):
        raise DataError(f"{path}: imDir {folder!r} is outside the sequence's folder")
    length = info.get("seqlength", "0")
    if not _is_count(length):
        raise DataError(f"{path}: seqLength: expected an integer, got {length[:40]!r}")
    return info


def _pixels(info: dict[str, str], name: str) -> int:
    text = info.get(name, "")
    return int(text) if _is_count(text) else 0


def _is_count(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 10


def _video_file(root: Path, folder: Path) -> Path:
    """Return `SEQ.mp4` in or beside the sequence's folder, or the only video file in it."""
    inside = video_files(folder)
    beside = video_files(folder.parent) if folder != root else []
    files = [path for path in (*inside, *beside) if path.stem == folder.name] or inside
    if len(files) != 1:
        found = f"{len(files)} video files" if files else "neither"
        raise DataError(
            f"{folder}: expected frames in {folder.name}/img1 or a video file, found {found}"
        )
    return files[0]
