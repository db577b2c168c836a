"""Converts ImageNet VID and DET to COCO-VID JSON: one file a split, frames stay where they are.

A training file lists every frame of every video, since support frames come from all of them;
`is_vid_train_frame` marks the 15 that are targets. Stills of DET have no `video_id`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from sparsevod_core.config import DataConfig
from sparsevod_core.data.formats.coco_vid import CocoVidWriter
from sparsevod_core.data.formats.degradations_json import Degradations, read_degradations
from sparsevod_core.data.formats.imagenet_classes import ImageNetClass, read_classes
from sparsevod_core.data.formats.imagenet_frames import (
    AnnotatedFrame,
    FolderContent,
    LabelledBox,
    read_folder,
)
from sparsevod_core.data.formats.imagenet_layout import (
    SPLITS,
    FrameFolder,
    Listing,
    find_root,
    list_stills,
    list_videos,
    splits_in,
)
from sparsevod_core.data.formats.prepared_split import PreparedSplit
from sparsevod_core.errors import ConfigError, DataError
from sparsevod_core.reporting import Reporter, SilentReporter


def prepare_imagenet_vid(
    root: Path,
    output: Path | None = None,
    *,
    splits: Sequence[str] = (),
    include_det: bool = True,
    strict: bool = False,
    dry_run: bool = False,
    info: Mapping[str, Any] | None = None,
    reporter: Reporter | None = None,
) -> list[PreparedSplit]:
    """Convert the tree at `root` into `train.json` and `val.json`.

    Args:
        root: folder with `Data/VID`, or one that holds such an `ILSVRC...` folder.
        output: folder for the files, or a `.json` when one split is converted; None is the folder
            where `train` and `eval` look by default.
        splits: `train`, `val` or both; empty takes those in the tree.
        include_det: add DET's stills, where there are any, to `train`.
        strict: stop at the first thing that is missing or broken instead of leaving it out.
        dry_run: read and check everything, write nothing.
        info: recorded in the files beside version and root.
        reporter: told about progress.

    Raises:
        ConfigError: unknown split, or one file asked for two splits.
        DataError: no such tree, nothing usable in a split, a list that cannot be read or whose
            names leave the tree, or, if `strict`, any problem.
    """
    output = output or Path(DataConfig().train_annotations).parent
    reporter = reporter or SilentReporter()
    try:
        tree = _open_tree(find_root(root))
        chosen = _choose_splits(tree.root, splits)
        files = _output_files(output, chosen)
        return [
            _convert(tree, split, None if dry_run else file, include_det, strict, info, reporter)
            for split, file in zip(chosen, files, strict=True)
        ]
    except OSError as error:
        raise DataError(f"{error.filename or output}: {error.strerror or error}") from error


@dataclass(frozen=True, slots=True)
class _Tree:
    root: Path
    classes: tuple[ImageNetClass, ...]
    class_ids: Mapping[str, int]
    class_names: Mapping[int, str]
    degradations: Degradations | None


def _open_tree(root: Path) -> _Tree:
    classes = read_classes(root)
    return _Tree(
        root,
        classes,
        class_ids={item.wnid: item.id for item in classes},
        class_names={item.id: item.name for item in classes},
        degradations=read_degradations(root),
    )


def _choose_splits(root: Path, splits: Sequence[str]) -> list[str]:
    found = splits_in(root)
    for split in splits:
        if split not in SPLITS:
            raise ConfigError(f"unknown split {split!r}: expected {' or '.join(SPLITS)}")
        if split not in found:
            raise DataError(f"{root / 'Data' / 'VID' / split}: not there, so no {split} to convert")
    if not found:
        raise DataError(f"{root / 'Data' / 'VID'}: expected a folder train or val in it")
    return [split for split in found if not splits or split in splits]


def _output_files(output: Path, splits: list[str]) -> list[Path]:
    if output.suffix != ".json":
        return [output / f"{split}.json" for split in splits]
    if len(splits) > 1:
        raise ConfigError(
            f"{output}: one file for two splits, {' and '.join(splits)}",
            hint="give a folder, or choose one with --splits",
        )
    return [output]


def _convert(
    tree: _Tree,
    split: str,
    file: Path | None,
    include_det: bool,
    strict: bool,
    info: Mapping[str, Any] | None,
    reporter: Reporter,
) -> PreparedSplit:
    videos = list_videos(tree.root, split)
    stills = list_stills(tree.root) if split == "train" and include_det else Listing()
    folders = videos.folders + stills.folders
    result = _expected(tree, split, videos, stills)
    if strict and result.missing:
        raise _stopped(f"{tree.root}: {result.missing[0]} is listed, but not in the tree")
    if split == "train" and include_det and not stills.folders:
        reporter.message(f"{tree.root}: no stills of DET here, training will have VID alone")
    with ExitStack() as stack:
        writer = None
        if file is not None:
            result.file = file
            writer = stack.enter_context(_open_writer(tree, file, split, info or {}))
        progress = stack.enter_context(
            reporter.progress(f"reading {split}", len(folders), "folders")
        )
        for folder in folders:
            content = read_folder(tree.root, folder, tree.class_ids)
            if strict and content.problems:
                raise _stopped(content.problems[0])
            _count(result, tree, folder, content)
            if writer is not None:
                _write_folder(writer, tree, folder, content.frames)
            progress.advance(note=folder.name)
        if not (result.num_frames or result.num_stills):
            reason = (result.problems or ["there is none"])[0]
            raise DataError(f"{tree.root}: no usable frame in the split {split}: {reason}")
    return result


def _expected(tree: _Tree, split: str, videos: Listing, stills: Listing) -> PreparedSplit:
    """An empty count that knows what the lists promise."""
    listed = videos.listed_frames is not None
    return PreparedSplit(
        split,
        expected_videos=len(videos.folders) + len(videos.missing) if listed else None,
        expected_frames=videos.listed_frames,
        expected_stills=stills.listed_frames,
        boxes_per_class={item.name: 0 for item in tree.classes},
        missing=videos.missing + stills.missing,
        unlisted=videos.unlisted,
    )


def _count(result: PreparedSplit, tree: _Tree, folder: FrameFolder, content: FolderContent) -> None:
    frames = content.frames
    if folder.is_video:
        result.num_videos += bool(frames)
        result.num_frames += len(frames)
    else:
        result.num_stills += len(frames)
    result.num_targets += sum(frame.is_target for frame in frames)
    result.num_empty += sum(not frame.boxes for frame in frames)
    result.num_other_boxes += content.num_other_boxes
    result.problems += content.problems
    for frame in frames:
        for box in frame.boxes:
            result.boxes_per_class[tree.class_names[box.class_id]] += 1


def _stopped(problem: str) -> DataError:
    return DataError(problem, hint="without --strict it is left out, and reported")


def _open_writer(tree: _Tree, file: Path, split: str, info: Mapping[str, Any]) -> CocoVidWriter:
    about = {
        "tool": f"sparsevod {version('sparsevod')}",
        "split": split,
        "root": os.path.relpath(tree.root.resolve(), file.resolve().parent),
    }
    categories = [{"id": c.id, "name": c.name, "wnid": c.wnid} for c in tree.classes]
    return CocoVidWriter(file, info=about | dict(info), categories=categories)


def _write_folder(
    writer: CocoVidWriter, tree: _Tree, folder: FrameFolder, frames: Sequence[AnnotatedFrame]
) -> None:
    video: dict[str, Any] = {}
    if folder.is_video and frames:
        size = {"width": frames[0].width, "height": frames[0].height}
        video_id = writer.add_video(name=folder.name, **size, num_frames=len(frames))
        video["video_id"] = video_id
    instances: dict[int, int] = {}
    for frame in frames:
        image_id = writer.add_image(**video, **_image(tree, folder, frame))
        for box in frame.boxes:
            # Track ids count within a video, instance ids over the data set.
            if box.track is None:
                instance = writer.new_instance()
            else:
                instance = instances.get(box.track) or writer.new_instance()
                instances[box.track] = instance
            writer.add_annotation(
                image_id=image_id, **video, instance_id=instance, **_annotation(box)
            )


def _image(tree: _Tree, folder: FrameFolder, frame: AnnotatedFrame) -> dict[str, Any]:
    image: dict[str, Any] = {"frame_id": frame.number} if folder.is_video else {}
    image |= {"file_name": frame.file_name, "width": frame.width, "height": frame.height}
    if folder.split == "train":
        image["is_vid_train_frame"] = frame.is_target
    if tree.degradations is not None:
        image["degradation"] = tree.degradations.get(frame.file_name, {})
    return image


def _annotation(box: LabelledBox) -> dict[str, Any]:
    left, top, right, bottom = (int(side) if side == int(side) else side for side in box.box_xyxy)
    width, height = right - left, bottom - top
    annotation: dict[str, Any] = {
        "category_id": box.class_id,
        "bbox": [left, top, width, height],
        "area": width * height,
        "iscrowd": 0,
        "occluded": box.occluded,
        "generated": box.generated,
    }
    if box.motion_iou is not None:
        annotation["motion_iou"] = round(box.motion_iou, 6)
    return annotation
