"""Converts ImageNet VID and DET to COCO-VID JSON: one file a split, frames stay where they are.

A training file lists every frame of every video, since support frames come from all of them;
`is_vid_train_frame` marks the 15 that are targets. Stills of DET have no `video_id`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from sparsevod_core.class_lists.imagenet_vid import (
    IMAGENET_VID_CLASSES,
    ImageNetClass,
    read_classes,
)
from sparsevod_core.config import DataConfig
from sparsevod_core.errors import ConfigError, DataError
from sparsevod_core.prepare.annotated import AnnotatedVideo
from sparsevod_core.prepare.conversion import convert, stopped
from sparsevod_core.prepare.conversion_output import Origin
from sparsevod_core.prepare.degradations_json import Degradations, read_degradations
from sparsevod_core.prepare.imagenet_vid.facts import IMAGENET_VID
from sparsevod_core.prepare.imagenet_vid.frames import last_change, read_folder
from sparsevod_core.prepare.imagenet_vid.layout import (
    SPLITS,
    FrameFolder,
    Listing,
    find_root,
    list_stills,
    list_videos,
    splits_in,
)
from sparsevod_core.prepare.prepared_split import PreparedSplit
from sparsevod_core.reporting import Reporter, SilentReporter


def prepare_imagenet_vid(
    root: Path,
    output: Path | None = None,
    *,
    splits: Sequence[str] = (),
    include_det: bool = True,
    strict: bool = False,
    dry_run: bool = False,
    workers: int = 0,
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
        workers: processes that read; up to 1 reads in this one.
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
            _convert(
                tree, split, None if dry_run else file, include_det, strict, workers, info, reporter
            )
            for split, file in zip(chosen, files, strict=True)
        ]
    except OSError as error:
        raise DataError(f"{error.filename or output}: {error.strerror or error}") from error


@dataclass(frozen=True, slots=True)
class _Tree:
    root: Path
    classes: tuple[ImageNetClass, ...]
    class_ids: Mapping[str, int]
    degradations: Degradations | None


def _open_tree(root: Path) -> _Tree:
    classes = read_classes(root)
    return _Tree(
        root,
        classes,
        class_ids={item.wnid: item.id for item in classes},
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
    workers: int,
    info: Mapping[str, Any] | None,
    reporter: Reporter,
) -> PreparedSplit:
    videos = list_videos(tree.root, split)
    stills = list_stills(tree.root) if split == "train" and include_det else Listing()
    folders = videos.folders + stills.folders
    result = _expected(tree, split, file, videos, stills)
    if strict and result.missing:
        raise stopped(f"{tree.root}: {result.missing[0]} is listed, but not in the tree")
    if split == "train" and include_det and not stills.folders:
        reporter.message(f"{tree.root}: no stills of DET here, training will have VID alone")
    read = _FolderReader(tree.root, tree.class_ids, tree.degradations)
    return convert(
        folders,
        read,
        result,
        categories=[{"id": c.id, "name": c.name, "wnid": c.wnid} for c in tree.classes],
        info=_root_info(tree.root, file) | dict(info or {}),
        strict=strict,
        reporter=reporter,
        workers=workers,
        origin=Origin(repr((read, folders)), partial(last_change, tree.root)),
    )


@dataclass(frozen=True, slots=True)
class _FolderReader:
    """Reads one folder of a tree; goes to worker processes as it is."""

    root: Path
    class_ids: Mapping[str, int]
    degradations: Degradations | None

    def __call__(self, folder: FrameFolder) -> AnnotatedVideo:
        video = read_folder(self.root, folder, self.class_ids)
        if self.degradations is not None:
            for frame in video.frames:
                frame.extra = {"degradation": self.degradations.get(frame.file_name, {})}
        return video


def _root_info(root: Path, file: Path | None) -> dict[str, Any]:
    """Where file names start from, as `info.root` says it: relative to the file's folder."""
    return {} if file is None else {"root": os.path.relpath(root.resolve(), file.resolve().parent)}


def _expected(
    tree: _Tree, split: str, file: Path | None, videos: Listing, stills: Listing
) -> PreparedSplit:
    """An empty count that knows what the lists promise, and what ImageNet VID holds."""
    result = PreparedSplit(
        split,
        file,
        expected_videos=videos.listed_videos,
        expected_frames=videos.listed_frames,
        expected_stills=stills.listed_frames,
        missing=videos.missing + stills.missing,
        unlisted=videos.unlisted,
        problems=videos.problems + stills.problems,
    )
    facts = IMAGENET_VID[split]
    promised = (result.expected_videos, result.expected_frames)
    is_official = promised in ((None, None), (facts.num_videos, facts.num_frames))
    if tree.classes == IMAGENET_VID_CLASSES and is_official:
        result.expected_videos, result.expected_frames = facts.num_videos, facts.num_frames
        result.expected_empty = facts.num_empty
        if facts.boxes_per_class is not None:
            result.expected_boxes_per_class = dict(facts.boxes_per_class)
        if not stills.folders:
            result.expected_targets = facts.num_targets
        elif stills.listed_frames is not None:
            result.expected_targets = facts.num_targets + stills.listed_frames
    return result
