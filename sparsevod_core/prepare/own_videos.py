"""Converts the user's own videos, labelled in any common format, to COCO-VID JSON.

Frames stay where they are: the JSON records where that is. Splits are the data's own, `train` and
`val`; where there are none, some whole videos are drawn for `val`, or all go into one file.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from sparsevod_core.errors import ConfigError, DataError, SparseVodError
from sparsevod_core.prepare.annotated import AnnotatedVideo
from sparsevod_core.prepare.coco.labels import find_coco
from sparsevod_core.prepare.conversion import convert
from sparsevod_core.prepare.conversion_output import Origin
from sparsevod_core.prepare.cvat.labels import find_cvat
from sparsevod_core.prepare.label_set import Hints, LabelSet, Part, Split, last_change
from sparsevod_core.prepare.mot.labels import find_mot
from sparsevod_core.prepare.prepared_split import PreparedSplit
from sparsevod_core.prepare.voc.labels import find_voc
from sparsevod_core.prepare.yolo.labels import find_yolo
from sparsevod_core.reporting import Reporter, SilentReporter

FORMATS: dict[str, Callable[[Path, Hints, Reporter], LabelSet]] = {
    "coco": find_coco,
    "mot": find_mot,
    "yolo": find_yolo,
    "voc": find_voc,
    "cvat": find_cvat,
}
_USED_HINTS = {
    "classes": ("mot", "yolo", "voc", "cvat"),
    "images": ("coco", "cvat"),
    "first_frame": ("coco", "mot", "yolo", "voc"),
    "group_by_folder": ("coco", "yolo", "voc"),
}


def prepare_own_videos(
    root: Path,
    output: Path | None,
    label_format: str,
    *,
    hints: Hints | None = None,
    splits: Sequence[str] = (),
    val_fraction: float | None = None,
    seed: int = 0,
    strict: bool = False,
    dry_run: bool = False,
    workers: int = 0,
    reporter: Reporter | None = None,
) -> list[PreparedSplit]:
    """Convert the labels at `root` into `train.json` and `val.json`, or into one file.

    Args:
        root: the data set's folder, or its one annotation file.
        output: folder for the two files, or a `.json` for one split or for everything; None with
            `dry_run`.
        label_format: a key of `FORMATS`.
        hints: what the layout leaves open.
        splits: `train`, `val` or both; empty takes those of the data.
        val_fraction: share of the videos that `val` gets, where the data have no splits.
        seed: of that draw.
        strict: stop at the first problem instead of leaving out what is broken.
        dry_run: read and check everything, write nothing.
        workers: processes that read; up to 1 reads in this one.
        reporter: told about progress.

    Raises:
        ConfigError: options that do not fit the data.
        DataError: no such labels, no usable frame, or, if `strict`, any problem.
    """
    reporter = reporter or SilentReporter()
    hints = hints or Hints()
    _check_options(label_format, hints, output, val_fraction, dry_run)
    try:
        labels = FORMATS[label_format](root, hints, reporter)
        for note in labels.notes:
            reporter.message(f"{root}: {note}")
        chosen = _choose(root, labels.splits, splits, val_fraction, seed, output)
        if not any(len(split.sources) or split.problems for split in chosen.values()):
            raise DataError(f"{root}: no video or image with labels here")
        drawn = {} if val_fraction is None else {"val_fraction": val_fraction, "seed": seed}
        about = {"format": label_format, **drawn}
        return [
            convert(
                split.sources,
                _Tolerant(labels.read),
                PreparedSplit(name, file, problems=list(split.problems)),
                categories=labels.categories,
                info=_root_info(labels.root, file) | about,
                strict=strict,
                reporter=reporter,
                workers=workers,
                origin=Origin(
                    repr((labels.root, labels.categories, labels.read, hints, split.sources)),
                    partial(last_change, labels.root),
                ),
            )
            for name, split in chosen.items()
            for file in [_file(output, name, dry_run)]
        ]
    except OSError as error:
        raise DataError(f"{error.filename or root}: {error.strerror or error}") from error


def _check_options(
    label_format: str,
    hints: Hints,
    output: Path | None,
    val_fraction: float | None,
    dry_run: bool,
) -> None:
    if label_format not in FORMATS:
        raise ConfigError(f"unknown format {label_format!r}: expected {', '.join(FORMATS)}")
    for name, formats in _USED_HINTS.items():
        if getattr(hints, name) not in (None, False) and label_format not in formats:
            option = "--" + name.replace("_", "-")
            raise ConfigError(f"{option} goes with {', '.join(formats)}, not with {label_format}")
    if hints.images is not None and not hints.images.is_dir():
        raise DataError(f"{hints.images}: no such folder")
    if val_fraction is not None and not 0 < val_fraction < 1:
        raise ConfigError(f"--val-fraction {val_fraction:g}: expected a share between 0 and 1")
    if output is None and not dry_run:
        raise ConfigError("say where the files go with -o FOLDER, or look first with --dry-run")


def _choose(
    root: Path,
    found: dict[str, Split],
    splits: Sequence[str],
    val_fraction: float | None,
    seed: int,
    output: Path | None,
) -> dict[str, Split]:
    """The splits to write, by name."""
    one_file = output is not None and output.suffix == ".json"
    if {"train", "val"} <= found.keys():
        if val_fraction is not None:
            raise ConfigError(f"{root} has a train and a val of its own: leave out --val-fraction")
    else:
        (undivided,) = found.values() if len(found) == 1 else (Split(),)
        if val_fraction is not None:
            found = _draw(root, undivided, val_fraction, seed)
        elif one_file or output is None:
            found = {output.stem if output else "all": undivided}
        else:
            raise ConfigError(
                f"{root} is not divided into train and val",
                hint="--val-fraction 0.1 draws whole videos for val; -o NAME.json takes all",
            )
    for name in splits:
        if name not in found:
            raise ConfigError(f"unknown split {name!r}: expected {' or '.join(found)}")
    chosen = {name: split for name, split in found.items() if not splits or name in splits}
    if one_file and len(chosen) > 1:
        raise ConfigError(
            f"{output}: one file for two splits, {' and '.join(chosen)}",
            hint="give a folder, or choose one with --splits",
        )
    return chosen


def _draw(root: Path, split: Split, fraction: float, seed: int) -> dict[str, Split]:
    """Whole videos for `val`, the same ones for the same seed."""
    total = len(split.sources)
    if total < 2:
        raise ConfigError(f"{root}: --val-fraction draws whole videos, and there is {total}")
    count = min(max(round(fraction * total), 1), total - 1)
    drawn = set(random.Random(seed).sample(range(total), count))
    return {
        "train": Split(
            Part(split.sources, tuple(sorted(set(range(total)) - drawn))), split.problems
        ),
        "val": Split(Part(split.sources, tuple(sorted(drawn)))),
    }


def _file(output: Path | None, split: str, dry_run: bool) -> Path | None:
    if output is None or dry_run:
        return None
    return output if output.suffix == ".json" else output / f"{split}.json"


def _root_info(root: Path, file: Path | None) -> dict[str, Any]:
    """Where file names start from, as `info.root` says it: relative to the file's folder."""
    return {} if file is None else {"root": os.path.relpath(root.resolve(), file.resolve().parent)}


@dataclass(frozen=True, slots=True)
class _Tolerant:
    """A video that cannot be opened at all is a problem like others."""

    read: Callable[[Any], AnnotatedVideo]

    def __call__(self, source: Any) -> AnnotatedVideo:
        try:
            return self.read(source)
        except SparseVodError as error:
            return AnnotatedVideo(source.name, problems=[f"{error.message}, video left out"])
