"""Frames and boxes of one folder of ImageNet VID or DET.

Broken boxes, and frames whose XML or JPEG is invalid, are skipped and reported. The caller decides
whether that stops the conversion.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from sparsevod_core.errors import DataError
from sparsevod_core.prepare.imagenet_vid.layout import (
    JPEG_SUFFIXES,
    FrameFolder,
    spread_targets,
)
from sparsevod_core.prepare.reading.annotated import (
    AnnotatedFrame,
    AnnotatedVideo,
    LabeledBox,
    add_motion,
    box_within_frame,
)
from sparsevod_core.prepare.reading.image_size import read_jpeg_header
from sparsevod_core.prepare.voc.parser import (
    VocAnnotation,
    load_voc_xml,
    parse_plain_voc_xml,
    parse_voc_xml,
)

_BATCH = 16
"""Number of annotations that are parsed at once."""


def read_folder(root: Path, folder: FrameFolder, class_ids: Mapping[str, int]) -> AnnotatedVideo:
    """Read and check every frame of a folder; `class_ids` gives class ids by WordNet id."""
    video = AnnotatedVideo(folder.name, folder.is_video)
    data, annotations = folder_paths(root, folder)
    files, numbers = _pair_files(folder, data, annotations, video.problems)
    if files is None:
        return video
    is_target = True if folder.split == "train" else None
    for number, jpeg, xml, text, annotation in _read_annotations(files, video.problems):
        try:
            if annotation is None:
                annotation = parse_voc_xml(xml, text)
            # Before the boxes, which could all seem to lie outside a frame of the wrong size.
            width, height = annotation.width, annotation.height
            header = read_jpeg_header(f"{data}/{jpeg}")
            if (header.height, header.width) != (height, width):
                raise DataError(
                    f"{data}/{jpeg}: {header.width}x{header.height} pixels, but {xml} says "
                    f"{width}x{height}"
                )
            boxes = _read_boxes(xml, text, annotation, class_ids, video)
            if header.orientation != 1:  # ImageNet's boxes are those of the image as stored
                height, width = header.upright_size
                for box in boxes:
                    box.box_xyxy = header.upright(box.box_xyxy)
        except DataError as error:
            video.problems.append(error.message)
            continue
        if boxes or not folder.is_optional:
            name = f"Data/{folder.path}/{jpeg}"
            video.frames.append(AnnotatedFrame(name, number, width, height, boxes, is_target))
    video.frames.sort(key=lambda frame: frame.number)
    if folder.is_video:
        if folder.split == "train":
            _mark_targets(folder, data, numbers, video)
        add_motion(video.frames)
        found, listed = len(video.frames), folder.listed_frames
        if listed is not None and found != listed:
            video.problems.append(f"{data}: {found} frames read, {listed} listed")
    return video


def last_change(root: Path, folder: FrameFolder, every_file: bool) -> int:
    """Return when a folder's entries last changed, or, if `every_file`, any of its files, in ns.

    This is the status change time, which cannot be set back, unlike the modification time.
    """
    times = [0]
    for path in folder_paths(root, folder):
        try:
            times.append(os.stat(path).st_ctime_ns)  # noqa: PTH116 - see _files
            if every_file:
                times += [entry.stat().st_ctime_ns for entry in os.scandir(path)]
        except OSError:  # reported when the folder is read
            times.append(1)
    return max(times)


def folder_paths(root: Path, folder: FrameFolder) -> tuple[str, str]:
    """Return the paths of a folder's JPEGs and annotations."""
    return f"{root}/Data/{folder.path}", f"{root}/Annotations/{folder.path}"


def _pair_files(
    folder: FrameFolder, data: str, annotations: str, problems: list[str]
) -> tuple[list[_Files] | None, dict[int, str]]:
    """Return the frames that have both files (None without any), and names by frame number."""
    numbers: dict[int, str] = {}
    jpegs = _files(data, JPEG_SUFFIXES, problems)
    xmls = _files(annotations, (".xml",), problems)
    if not jpegs or not (xmls or folder.is_optional):
        where, what = (annotations, "annotations") if jpegs else (data, "frames")
        problems.append(f"{where}: no {what} here")
        return None, numbers
    if folder.stems is not None:
        names = sorted(folder.stems)
    else:
        names = sorted(xmls if folder.is_optional else jpegs.keys() | xmls.keys())
    files = []
    for name in names:
        number = 0
        if folder.is_video:
            if not (name.isascii() and name.isdigit() and len(name) <= 9):
                problems.append(f"{data}/{name}: the name of a video's frame must be a number")
                continue
            number = int(name)
            if numbers.setdefault(number, name) != name:
                problems.append(f"{data}/{name}: the same frame as {numbers[number]}")
                continue
        if name not in jpegs:
            problems.append(f"{data}/{name}.JPEG: missing, though the frame is annotated or listed")
        elif name not in xmls:
            problems.append(f"{annotations}/{name}.xml: missing, though {jpegs[name]} exists")
        else:
            files.append(_Files(number, jpegs[name], f"{annotations}/{xmls[name]}"))
    return files, numbers


def _files(folder: str, suffixes: tuple[str, ...], problems: list[str]) -> dict[str, str]:
    """Return file names by stem."""
    files: dict[str, str] = {}
    try:
        names = sorted(os.listdir(folder))  # noqa: PTH208 - a Path per file is slow
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


class _Files(NamedTuple):
    """Number, JPEG name and XML path of a frame that has both files."""

    number: int
    jpeg: str
    xml: str


def _read_annotations(
    files: Sequence[_Files], problems: list[str]
) -> Iterator[tuple[int, str, str, bytes, VocAnnotation | None]]:
    """Yield number, JPEG, XML, text, and the annotation (None for an unusual XML)."""
    for start in range(0, len(files), _BATCH):
        batch, texts = [], []
        for item in files[start : start + _BATCH]:
            try:
                texts.append(load_voc_xml(item.xml))
            except DataError as error:
                problems.append(error.message)
            else:
                batch.append(item)
        for item, text, annotation in zip(batch, texts, parse_plain_voc_xml(texts), strict=True):
            yield *item, text, annotation


def _read_boxes(
    xml: str,
    text: bytes,
    annotation: VocAnnotation,
    class_ids: Mapping[str, int],
    video: AnnotatedVideo,
) -> list[LabeledBox]:
    """Return the valid boxes; add the others to the problems of the video."""
    boxes, num_other, problems = _boxes(annotation, xml, class_ids, video.is_video)
    if problems:  # parse again with the slow reader, which knows line numbers
        annotation = parse_voc_xml(xml, text)
        boxes, num_other, problems = _boxes(annotation, xml, class_ids, video.is_video)
    if num_other:
        video.left_out["boxes of other classes"] += num_other
    video.problems += problems
    return boxes


def _boxes(
    annotation: VocAnnotation, xml: str, class_ids: Mapping[str, int], is_video: bool
) -> tuple[list[LabeledBox], int, list[str]]:
    """Return the boxes of our classes, the number of DET's other boxes, and the problems."""
    boxes: list[LabeledBox] = []
    problems: list[str] = []
    num_other = 0
    for item in annotation.objects:
        class_id = class_ids.get(item.name)
        if class_id is None:
            if is_video:
                name = item.name[:40]
                problems.append(f"{xml}:{item.line}: unknown class {name!r}, box skipped")
            else:
                num_other += 1
            continue
        box_xyxy, problem = box_within_frame(item.box_xyxy, annotation.width, annotation.height)
        if problem:
            problems.append(f"{xml}:{item.line}: {problem}")
        if box_xyxy is not None:
            boxes.append(LabeledBox(class_id, box_xyxy, item.track, item.occluded, item.generated))
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
            f"{data}: frame {number} is listed as a target, but missing"
            for number in sorted(targets.difference(numbers))
        ]
    for frame in video.frames:
        frame.is_target = frame.number in targets
