"""Reads one folder of ImageNet VID or DET: its frames, their boxes, and what is wrong with them.

What is broken is left out and named: a frame whose XML or JPEG cannot be trusted, or a single box.
The caller decides whether that stops the work.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from sparsevod_core.data.formats.annotated import (
    AnnotatedFrame,
    AnnotatedVideo,
    LabelledBox,
    add_motion,
    box_within_frame,
)
from sparsevod_core.data.formats.imagenet_layout import (
    JPEG_SUFFIXES,
    FrameFolder,
    spread_targets,
)
from sparsevod_core.data.formats.jpeg_size import read_jpeg_size
from sparsevod_core.data.formats.voc_xml import VocAnnotation, read_voc_xml
from sparsevod_core.errors import DataError


def read_folder(root: Path, folder: FrameFolder, class_ids: Mapping[str, int]) -> AnnotatedVideo:
    """Read and check every frame of a folder.

    Args:
        root: of the tree.
        folder: which video or stills.
        class_ids: class number by WordNet id.
    """
    content = AnnotatedVideo(folder.name, folder.is_video)
    jpegs = _files(root / "Data" / folder.path, JPEG_SUFFIXES, content.problems)
    xmls = _files(root / "Annotations" / folder.path, (".xml",), content.problems)
    names = sorted(jpegs.keys() | xmls.keys())
    if folder.stems is not None:
        names = sorted(folder.stems)
    if not xmls:
        content.problems.append(f"{root / 'Annotations' / folder.path}: no annotations here")
        return content
    numbers: dict[int, str] = {}
    for name in names:
        try:
            number = _frame_number(folder, name, numbers)
            jpeg, xml = _pair(root, folder, name, jpegs, xmls)
            annotation = _read_pair(root / jpeg, xml)
        except DataError as error:
            content.problems.append(error.message)
            continue
        boxes = _boxes(annotation, xml, folder, class_ids, content)
        frame = AnnotatedFrame(
            jpeg,
            number,
            annotation.width,
            annotation.height,
            boxes,
            is_target=True if folder.split == "train" else None,
        )
        if boxes or folder.is_video or folder.stems is not None:
            content.frames.append(frame)
    content.frames.sort(key=lambda frame: frame.number)
    if folder.is_video:
        if folder.split == "train":
            _mark_targets(content.frames, folder)
        add_motion(content.frames)
        _check_length(root, folder, content)
    return content


def _files(folder: Path, suffixes: tuple[str, ...], problems: list[str]) -> dict[str, str]:
    """File names by stem."""
    files: dict[str, str] = {}
    if not folder.is_dir():
        return files
    for name in sorted(os.listdir(folder)):  # noqa: PTH208 - a Path for each of a million files
        stem, suffix = os.path.splitext(name)  # noqa: PTH122
        if suffix.lower() not in suffixes or stem.startswith("."):
            continue
        if stem in files:
            problems.append(f"{folder / name}: the same frame as {files[stem]}")
        else:
            files[stem] = name
    return files


def _frame_number(folder: FrameFolder, name: str, numbers: dict[int, str]) -> int:
    if not folder.is_video:
        return 0
    if not (name.isascii() and name.isdigit() and len(name) <= 9):
        raise DataError(f"{folder.path}/{name}: the name of a video's frame must be a number")
    number = int(name)
    if number in numbers:
        raise DataError(f"{folder.path}/{name}: the same frame as {numbers[number]}")
    numbers[number] = name
    return number


def _pair(
    root: Path, folder: FrameFolder, name: str, jpegs: dict[str, str], xmls: dict[str, str]
) -> tuple[str, Path]:
    """File name of the JPEG, relative to the root, and path of the XML."""
    jpeg, xml = f"Data/{folder.path}", root / "Annotations" / folder.path
    if name not in jpegs:
        raise DataError(
            f"{root / jpeg / name}.JPEG: missing, though the frame is annotated or listed"
        )
    if name not in xmls:
        raise DataError(f"{xml / name}.xml: missing, though the frame {jpegs[name]} is there")
    return f"{jpeg}/{jpegs[name]}", xml / xmls[name]


def _read_pair(jpeg: Path, xml: Path) -> VocAnnotation:
    annotation = read_voc_xml(xml)
    height, width = read_jpeg_size(jpeg)
    if (width, height) != (annotation.width, annotation.height):
        raise DataError(
            f"{jpeg}: {width}x{height} pixels, but {xml} says "
            f"{annotation.width}x{annotation.height}"
        )
    return annotation


def _boxes(
    annotation: VocAnnotation,
    xml: Path,
    folder: FrameFolder,
    class_ids: Mapping[str, int],
    content: AnnotatedVideo,
) -> list[LabelledBox]:
    boxes = []
    for item in annotation.objects:
        class_id = class_ids.get(item.name)
        if class_id is None and not folder.is_video:
            content.num_other_boxes += 1
            continue
        if class_id is None:
            name = item.name[:40]
            content.problems.append(f"{xml}:{item.line}: unknown class {name!r}, box left out")
            continue
        box_xyxy, problem = box_within_frame(item.box_xyxy, annotation.width, annotation.height)
        if problem:
            content.problems.append(f"{xml}:{item.line}: {problem}")
        if box_xyxy is not None:
            boxes.append(LabelledBox(class_id, box_xyxy, item.track, item.occluded, item.generated))
    return boxes


def _mark_targets(frames: list[AnnotatedFrame], folder: FrameFolder) -> None:
    targets = folder.targets
    if targets is None:
        targets = frozenset(frames[place].number for place in spread_targets(len(frames)))
    for frame in frames:
        frame.is_target = frame.number in targets


def _check_length(root: Path, folder: FrameFolder, content: AnnotatedVideo) -> None:
    expected = folder.listed_frames
    if expected is not None and len(content.frames) != expected:
        path = root / "Data" / folder.path
        content.problems.append(f"{path}: {len(content.frames)} frames read, {expected} listed")
