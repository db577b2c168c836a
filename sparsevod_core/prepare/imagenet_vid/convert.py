"""Conversion of ImageNet VID and DET to COCO-VID JSON, one file per split.

Frames stay where they are. A training file lists every frame of every video, since any frame can be
a support frame; `is_vid_train_frame` marks the 15 targets. DET's still images have no `video_id`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from sparsevod_core.class_lists.imagenet_vid import read_classes
from sparsevod_core.config import DataConfig
from sparsevod_core.data.json_fields import FieldError, finite
from sparsevod_core.errors import ConfigError, DataError
from sparsevod_core.input_file import read_limited
from sparsevod_core.prepare.conversion.convert import convert, root_info, stopped
from sparsevod_core.prepare.conversion.output import Origin
from sparsevod_core.prepare.conversion.prepared_split import PreparedSplit, output_files
from sparsevod_core.prepare.imagenet_vid.expected import expected_split
from sparsevod_core.prepare.imagenet_vid.frames import last_change, read_folder
from sparsevod_core.prepare.imagenet_vid.layout import (
    SPLITS,
    FrameFolder,
    Listing,
    find_root,
    list_stills,
    list_videos,
)
from sparsevod_core.prepare.reading.annotated import AnnotatedVideo
from sparsevod_core.reporting import Reporter, SilentReporter

DEGRADATIONS_FILE = "degradations.json"
_MAX_DEGRADATIONS_BYTES = 2**28
"""Severities in a rendered set, beside its folders, since ImageNet's XML has no field for them."""

Degradations = Mapping[str, Mapping[str, float]]
"""Severity (0..1) by kind, by the frame's path relative to the tree. Other frames are clean.

In the file: `{"frames": {"Data/VID/val/SNIPPET/000003.JPEG": {"noise": 0.8}}}`.
"""


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
        root: Folder with `Data/VID`, or with an `ILSVRC...` folder that has it.
        output: Folder for the files, or a `.json` for one split; None for the folder where `train`
            and `eval` look by default.
        include_det: If True, add DET's still images, if any, to `train`.
        info: Further content of `info` in the files, beside version and root.
        splits, strict, dry_run, workers, reporter: See `labeled.prepare_labeled`.

    Raises:
        ConfigError: Unknown split, or one file for two splits.
        DataError: No such tree, no usable frame in a split, a list that is unreadable or names
            files outside the tree, or, if `strict`, any problem.
    """
    output = output or Path(DataConfig().train_annotations).parent
    reporter = reporter or SilentReporter()
    try:
        root = _find_root(root)
        classes = read_classes(root)
        read = _FolderReader(root, {c.wnid: c.id for c in classes}, _read_degradations(root))
        files = output_files(output, _choose_splits(root, splits), dry_run=dry_run)
        prepared = []
        for split, file in files.items():
            videos = list_videos(root, split)
            stills = list_stills(root) if split == "train" and include_det else Listing()
            result = expected_split(split, file, videos, stills, classes)
            if strict and result.missing:
                raise stopped(f"{root}: {result.missing[0]} is listed, but not in the tree")
            if split == "train" and include_det and not stills.folders:
                reporter.message(f"{root}: no DET images here, training will use only VID")
            folders = videos.folders + stills.folders
            convert(
                folders,
                read,
                result,
                categories=[{"id": c.id, "name": c.name, "wnid": c.wnid} for c in classes],
                info=root_info(root, file) | dict(info or {}),
                strict=strict,
                reporter=reporter,
                workers=workers,
                origin=Origin(repr((read, folders)), partial(last_change, root)),
            )
            prepared.append(result)
        return prepared
    except OSError as error:
        raise DataError(f"{error.filename or output}: {error.strerror or error}") from error


def _find_root(path: Path) -> Path:
    root = find_root(path)
    if root is None:
        raise DataError(
            f"{path}: no ImageNet VID here: expected the folder Data/VID/train or Data/VID/val",
            hint="give the unpacked ILSVRC2015 folder, or render a small set for a first try: "
            "sparsevod prepare-vid --synthetic data/synthetic",
        )
    return root


def _choose_splits(root: Path, splits: Sequence[str]) -> list[str]:
    found = [split for split in SPLITS if (root / "Data" / "VID" / split).is_dir()]
    for split in splits:
        if split not in SPLITS:
            raise ConfigError(f"unknown split {split!r}: expected {' or '.join(SPLITS)}")
        if split not in found:
            raise DataError(
                f"{root / 'Data' / 'VID' / split}: no such folder, so no {split} to convert"
            )
    if not found:
        raise DataError(f"{root / 'Data' / 'VID'}: expected a folder train or val in it")
    return [split for split in found if not splits or split in splits]


def _read_degradations(root: Path) -> Degradations | None:
    """Return the degradations of a tree; None without the file, as in every real data set."""
    path = root / DEGRADATIONS_FILE
    try:
        frames = json.loads(read_limited(path, _MAX_DEGRADATIONS_BYTES, DataError))["frames"]
        return {
            name: {kind: finite(kinds, kind) for kind in dict(kinds)}
            for name, kinds in dict(frames).items()
        }
    except FileNotFoundError:
        return None
    except (FieldError, OSError, ValueError, LookupError, TypeError, RecursionError) as error:
        raise DataError(
            f"{path}: expected severities by frame: {str(error)[:160]}",
            hint="the file is optional: move it away to convert without it",
        ) from error


@dataclass(frozen=True, slots=True)
class _FolderReader:
    """Reader of one folder of a tree, sent to worker processes."""

    root: Path
    class_ids: Mapping[str, int]
    degradations: Degradations | None

    def __call__(self, folder: FrameFolder) -> AnnotatedVideo:
        video = read_folder(self.root, folder, self.class_ids)
        if self.degradations is not None:
            for frame in video.frames:
                frame.extra = {"degradation": self.degradations.get(frame.file_name, {})}
        return video
