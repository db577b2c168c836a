"""Reads one folder of ImageNet VID or DET: its frames, their boxes, and what is wrong with them.

What is broken is left out and named: a frame whose XML or JPEG cannot be trusted, or a single box.
The caller decides whether that stops the work.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from sparsevod_core.errors import DataError
from sparsevod_core.prepare.annotated import (
    AnnotatedFrame,
    AnnotatedVideo,
    LabelledBox,
    add_motion,
    box_within_frame,
)
from sparsevod_core.prepare.imagenet_vid.layout import (
    JPEG_SUFFIXES,
    FrameFolder,
    spread_targets,
)
from sparsevod_core.prepare.jpeg_size import read_jpeg_size
from sparsevod_core.prepare.voc.parser import (
    VocAnnotation,
    load_voc_xml,
    parse_plain_voc_xml,
    parse_voc_xml,
)

_READ_TOGETHER = 16
"""Annotations that are parsed at once."""


def read_folder(root: Path, folder: FrameFolder, class_ids: Mapping[str, int]) -> AnnotatedVideo:
    """Read and check every frame of a folder.

    Args:
        root: of the tree.
        folder: which video or stills.
        class_ids: class number by WordNet id.
    """
    video = AnnotatedVideo(folder.name, folder.is_video)
    data, annotations = folder_paths(root, folder)
    jpegs = _files(data, JPEG_SUFFIXES, video.problems)
    xmls = _files(annotations, (".xml",), video.problems)
    # DET has many stills of no class, and those without an annotation: only a list misses them.
    is_free_choice = not folder.is_video and folder.stems is None
    if not jpegs or not (xmls or is_free_choice):
        where, what = (annotations, "annotations") if jpegs else (data, "frames")
        video.problems.append(f"{where}: no {what} here")
        return video
    if folder.stems is not None:
        names = sorted(folder.stems)
    else:
        names = sorted(xmls if is_free_choice else jpegs.keys() | xmls.keys())
    numbers: dict[int, str] = {}
    files = []
    for name in names:
        try:
            number = _frame_number(data, name, numbers) if folder.is_video else 0
            if name not in jpegs:
                raise DataError(
                    f"{data}/{name}.JPEG: missing, though the frame is annotated or listed"
                )
            if name not in xmls:
                raise DataError(
                    f"{annotations}/{name}.xml: missing, though the frame {jpegs[name]} is there"
                )
        except DataError as error:
            video.problems.append(error.message)
        else:
            files.append(_Files(number, jpegs[name], f"{annotations}/{xmls[name]}"))
    is_target = True if folder.split == "train" else None
    for number, jpeg, xml, text, annotation in _read_annotations(files, video.problems):
        try:
            if annotation is None:
                annotation = parse_voc_xml(xml, text)
            # Before the boxes: of another frame's size they would all seem to lie outside.
            width, height = _require_same_size(f"{data}/{jpeg}", xml, annotation)
            boxes = _use_boxes(xml, text, annotation, class_ids, video)
        except DataError as error:
            video.problems.append(error.message)
            continue
        if boxes or not is_free_choice:
            name = f"Data/{folder.path}/{jpeg}"
            video.frames.append(AnnotatedFrame(name, number, width, height, boxes, is_target))
    video.frames.sort(key=lambda frame: frame.number)
    if folder.is_video:
        if folder.split == "train":
            _mark_targets(folder, data, numbers, video)
        add_motion(video.frames)
        _check_length(folder, data, video)
    return video


def last_change(root: Path, folder: FrameFolder, every_file: bool) -> int:
    """When a folder's names last changed, or, if `every_file`, anything in it; in nanoseconds.

    The status time, which no tool can set back, unlike the time of modification.
    """
    times = [0]
    for path in folder_paths(root, folder):
        try:
            times.append(os.stat(path).st_ctime_ns)  # noqa: PTH116 - see _files
            if every_file:
                times += [entry.stat().st_ctime_ns for entry in os.scandir(path)]
        except OSError:  # reading it will say what is wrong
            times.append(1)
    return max(times)


def folder_paths(root: Path, folder: FrameFolder) -> tuple[str, str]:
    """Where a folder's JPEGs and annotations lie."""
    return f"{root}/Data/{folder.path}", f"{root}/Annotations/{folder.path}"


def _files(folder: str, suffixes: tuple[str, ...], problems: list[str]) -> dict[str, str]:
    """File names by stem."""
    files: dict[str, str] = {}
    try:
        names = sorted(os.listdir(folder))  # noqa: PTH208 - a Path for each of a million files
    except FileNotFoundError:
        return files
    except OSError as error:
        problems.append(f"{folder}: cannot read the folder: {error.strerror}")
        return files
    for name in names:
        stem, dot, suffix = name.rpartition(".")
        if f"{dot}{suffix}".lower() not in suffixes or not stem or stem[0] == ".":
            continue
        if stem in files:
            problems.append(f"{folder}/{name}: the same frame as {files[stem]}")
        else:
            files[stem] = name
    return files


def _frame_number(data: str, name: str, numbers: dict[int, str]) -> int:
    if not (name.isascii() and name.isdigit() and len(name) <= 9):
        raise DataError(f"{data}/{name}: the name of a video's frame must be a number")
    number = int(name)
    if number in numbers:
        raise DataError(f"{data}/{name}: the same frame as {numbers[number]}")
    numbers[number] = name
    return number


class _Files(NamedTuple):
    """A frame whose files are both there: the JPEG's name, the XML's path."""

    number: int
    jpeg: str
    xml: str


def _read_annotations(
    files: Sequence[_Files], problems: list[str]
) -> Iterator[tuple[int, str, str, bytes, VocAnnotation | None]]:
    """Number, JPEG, XML, the XML's text, and what an ordinary one says."""
    for start in range(0, len(files), _READ_TOGETHER):
        batch, texts = [], []
        for item in files[start : start + _READ_TOGETHER]:
            try:
                texts.append(load_voc_xml(item.xml))
            except DataError as error:
                problems.append(error.message)
            else:
                batch.append(item)
        for item, text, annotation in zip(batch, texts, parse_plain_voc_xml(texts), strict=True):
            yield *item, text, annotation


def _require_same_size(jpeg: str, xml: str, annotation: VocAnnotation) -> tuple[int, int]:
    """Width and height of a frame."""
    width, height = annotation.width, annotation.height
    size = read_jpeg_size(jpeg)
    if size != (height, width):
        raise DataError(f"{jpeg}: {size[1]}x{size[0]} pixels, but {xml} says {width}x{height}")
    return width, height


def _use_boxes(
    xml: str,
    text: bytes,
    annotation: VocAnnotation,
    class_ids: Mapping[str, int],
    video: AnnotatedVideo,
) -> list[LabelledBox]:
    """The boxes that can be used."""
    boxes, num_other, problems = _boxes(annotation, xml, class_ids, video.is_video)
    if problems:  # the careful reader knows the lines
        annotation = parse_voc_xml(xml, text)
        boxes, num_other, problems = _boxes(annotation, xml, class_ids, video.is_video)
    video.num_other_boxes += num_other
    video.problems += problems
    return boxes


def _boxes(
    annotation: VocAnnotation, xml: str, class_ids: Mapping[str, int], is_video: bool
) -> tuple[list[LabelledBox], int, list[str]]:
    """Boxes of our classes, how many DET has of others, and what is wrong."""
    boxes: list[LabelledBox] = []
    problems: list[str] = []
    num_other = 0
    for item in annotation.objects:
        class_id = class_ids.get(item.name)
        if class_id is None:
            if is_video:
                name = item.name[:40]
                problems.append(f"{xml}:{item.line}: unknown class {name!r}, box left out")
            else:
                num_other += 1
            continue
        box_xyxy, problem = box_within_frame(item.box_xyxy, annotation.width, annotation.height)
        if problem:
            problems.append(f"{xml}:{item.line}: {problem}")
        if box_xyxy is not None:
            boxes.append(LabelledBox(class_id, box_xyxy, item.track, item.occluded, item.generated))
    return boxes, num_other, problems


def _mark_targets(
    folder: FrameFolder, data: str, numbers: Collection[int], video: AnnotatedVideo
) -> None:
    if folder.targets is None:
        places = spread_targets(len(video.frames))
        targets = {video.frames[place].number for place in places}
    else:
        targets = set(folder.targets)
        video.problems += [
            f"{data}: frame {number} is listed as a target, but not there"
            for number in sorted(targets.difference(numbers))
        ]
    for frame in video.frames:
        frame.is_target = frame.number in targets


def _check_length(folder: FrameFolder, data: str, video: AnnotatedVideo) -> None:
    expected = folder.listed_frames
    if expected is not None and len(video.frames) != expected:
        video.problems.append(f"{data}: {len(video.frames)} frames read, {expected} listed")
