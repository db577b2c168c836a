"""Reads one folder of ImageNet VID or DET: its frames, their boxes, and what is wrong with them.

What is broken is left out and named: a frame whose XML or JPEG cannot be trusted, or a single box.
The caller decides whether that stops the work.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from sparsevod_core.data.formats.imagenet_layout import (
    JPEG_SUFFIXES,
    FrameFolder,
    spread_targets,
)
from sparsevod_core.data.formats.jpeg_size import read_jpeg_size
from sparsevod_core.data.formats.voc_xml import VocAnnotation, VocObject, read_voc_xml
from sparsevod_core.data.motion import motion_iou
from sparsevod_core.errors import DataError

Box = tuple[float, float, float, float]


@dataclass(slots=True)
class LabelledBox:
    """A box of a known class, within its frame.

    Attributes:
        track: the same number for the same object of a video; None where the XML has none.
        motion_iou: see `motion.motion_iou`; None without a track.
    """

    class_id: int
    box_xyxy: Box
    track: int | None
    occluded: bool
    generated: bool
    motion_iou: float | None = None


@dataclass(slots=True)
class AnnotatedFrame:
    """A frame whose JPEG and XML agree.

    Attributes:
        file_name: relative to the tree's root, `Data/VID/val/SNIPPET/000000.JPEG`.
        number: from the file's name, 0 for a still.
        width, height: in pixels.
        boxes: in the XML's order.
        is_target: training takes it as a target; other frames only support.
    """

    file_name: str
    number: int
    width: int
    height: int
    boxes: list[LabelledBox]
    is_target: bool = True


@dataclass(slots=True)
class FolderContent:
    """What a folder holds.

    Attributes:
        frames: by frame number (stills: by name), broken ones left out.
        problems: one line for each thing that is wrong, with file and line.
        num_other_boxes: boxes of stills whose class is none of ours (DET has 200).
    """

    frames: list[AnnotatedFrame] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    num_other_boxes: int = 0


def read_folder(root: Path, folder: FrameFolder, class_ids: Mapping[str, int]) -> FolderContent:
    """Read and check every frame of a folder.

    Args:
        root: of the tree.
        folder: which video or stills.
        class_ids: class number by WordNet id.
    """
    content = FolderContent()
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
        frame = AnnotatedFrame(jpeg, number, annotation.width, annotation.height, boxes)
        if boxes or folder.is_video or folder.stems is not None:
            content.frames.append(frame)
    content.frames.sort(key=lambda frame: frame.number)
    if folder.is_video:
        _mark_targets(content.frames, folder)
        _add_motion(content.frames)
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
    content: FolderContent,
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
        box_xyxy, problem = _within_frame(item, annotation)
        if problem:
            content.problems.append(f"{xml}:{item.line}: {problem}")
        if box_xyxy is not None:
            boxes.append(LabelledBox(class_id, box_xyxy, item.track, item.occluded, item.generated))
    return boxes


def _within_frame(item: VocObject, annotation: VocAnnotation) -> tuple[Box | None, str]:
    """The box clipped to the frame, and what is wrong with it; None where nothing is left."""
    left, top, right, bottom = item.box_xyxy
    width, height = annotation.width, annotation.height
    if 0 <= left < right <= width and 0 <= top < bottom <= height:
        return item.box_xyxy, ""
    text = f"box ({left:g}, {top:g}, {right:g}, {bottom:g})"
    if right <= left or bottom <= top:
        return None, f"{text} is empty or inverted, left out: expected xmin < xmax and ymin < ymax"
    clipped = (max(left, 0.0), max(top, 0.0), min(right, width), min(bottom, height))
    if clipped[0] >= clipped[2] or clipped[1] >= clipped[3]:
        return None, f"{text} lies outside the {width}x{height} frame, left out"
    return clipped, f"{text} leaves the {width}x{height} frame, clipped"


def _mark_targets(frames: list[AnnotatedFrame], folder: FrameFolder) -> None:
    if folder.split != "train":
        return
    targets = folder.targets
    if targets is None:
        targets = frozenset(frames[place].number for place in spread_targets(len(frames)))
    for frame in frames:
        frame.is_target = frame.number in targets


def _add_motion(frames: list[AnnotatedFrame]) -> None:
    tracked = [(frame, box) for frame in frames for box in frame.boxes if box.track is not None]
    if not tracked:
        return
    values = motion_iou(
        np.array([box.box_xyxy for _, box in tracked]),
        np.array([frame.number for frame, _ in tracked]),
        np.array([box.track for _, box in tracked]),
    )
    for (_, box), value in zip(tracked, values.tolist(), strict=True):
        box.motion_iou = value


def _check_length(root: Path, folder: FrameFolder, content: FolderContent) -> None:
    expected = folder.listed_frames
    if expected is not None and len(content.frames) != expected:
        path = root / "Data" / folder.path
        content.problems.append(f"{path}: {len(content.frames)} frames read, {expected} listed")
