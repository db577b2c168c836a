"""Conversion of labeled videos in any format to COCO-VID JSON.

Frames stay where they are, and the JSON records their paths. If the data have splits `train` and
`val`, these are kept. Otherwise all videos go into one file, or some are drawn for `val`. Splits
such as `test` are left out.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import Any

from sparsevod_core.errors import ConfigError, DataError, SparseVodError
from sparsevod_core.prepare.conversion.convert import convert, root_info
from sparsevod_core.prepare.conversion.output import Origin
from sparsevod_core.prepare.conversion.prepared_split import (
    GROUPING_HINT,
    PreparedSplit,
    output_files,
)
from sparsevod_core.prepare.conversion.shared_videos import describe_shared_videos
from sparsevod_core.prepare.imagenet_vid.convert import prepare_imagenet_vid
from sparsevod_core.prepare.imagenet_vid.layout import find_root
from sparsevod_core.prepare.reading.annotated import AnnotatedVideo
from sparsevod_core.prepare.reading.class_names import similar_names
from sparsevod_core.prepare.reading.label_set import Hints, Part, Split, last_change
from sparsevod_core.prepare.reading.split_names import HELD_OUT
from sparsevod_core.reporting import Reporter, SilentReporter


def prepare_labeled(
    root: Path,
    output: Path | None,
    label_format: str = "auto",
    *,
    hints: Hints | None = None,
    include_det: bool = True,
    val_fraction: float | None = None,
    seed: int | None = None,
    splits: Sequence[str] = (),
    strict: bool = False,
    dry_run: bool = False,
    workers: int = 0,
    reporter: Reporter | None = None,
) -> list[PreparedSplit]:
    """Convert the labels at `root` into `train.json` and `val.json`, or into one file.

    Args:
        root: Folder of the data set, or its one annotation file.
        output: Folder for the two files, or a `.json` for one split or all data; may be None for
            ImageNet VID, which has a default folder, and with `dry_run`.
        label_format: Key of `FORMATS`, `imagenet`, or `auto` to recognize the format.
        hints: What the layout leaves open; not for ImageNet VID.
        include_det: If False, skip DET's still images; only for ImageNet VID.
        val_fraction: Fraction of the videos to draw for `val` if the data have no splits.
        seed: Seed of that draw; None for 0.
        splits: Splits to convert; empty for `train` and `val` if the data have them.
        strict: If True, stop at the first problem instead of skipping what is broken.
        dry_run: If True, read and check everything, but write nothing.
        workers: Number of reading processes; 0 or 1 reads in this process.
        reporter: Receives progress and messages.

    Raises:
        ConfigError: The options do not fit the data or each other.
        DataError: No such labels, no usable frame, or, if `strict`, any problem.
    """
    reporter, hints = reporter or SilentReporter(), hints or Hints()
    run: dict[str, Any] = {"strict": strict, "workers": workers, "reporter": reporter}
    if label_format == "imagenet" or (label_format == "auto" and find_root(root)):
        if hints != Hints() or val_fraction is not None:
            raise ConfigError(
                "--classes, --images, --val-fraction, --first-frame and --group-by-folder are for "
                "your own videos, not for ImageNet VID"
            )
        return prepare_imagenet_vid(
            root, output, splits=splits, include_det=include_det, dry_run=dry_run, **run
        )
    # Imported here to keep the start fast for ImageNet VID, which needs no other format.
    from sparsevod_core.prepare.formats import FORMATS, recognize

    if label_format not in ("auto", *FORMATS):
        raise ConfigError(f"--format {label_format}: expected auto, imagenet, {', '.join(FORMATS)}")
    if label_format == "auto":
        label_format, sign = recognize(root)
        reporter.message(f"{root}: detected format {label_format} from {sign}")
    if not include_det:
        raise ConfigError(f"--no-det is for ImageNet VID, not for {label_format}")
    if output is None and not dry_run:
        raise ConfigError("no output given", hint="use -o FOLDER, or --dry-run to only check")
    if val_fraction is not None and not 0 < val_fraction < 1:
        raise ConfigError(f"--val-fraction {val_fraction:g}: expected a fraction between 0 and 1")
    _check_hints(label_format, hints)
    try:
        labels = FORMATS[label_format].find(root, hints, reporter)
        names = similar_names(str(category["name"]) for category in labels.categories)
        labels.notes += _held_out_notes(labels.splits, splits)
        for note in (*labels.notes, *names):
            reporter.message(f"{root}: {note}")
        chosen = _choose_splits(root, labels.splits, splits, val_fraction, seed or 0, output)
        inputs = dict.fromkeys([root, *labels.json_files], "the source")
        inputs |= {} if hints.classes is None else {hints.classes: "the class list"}
        files = output_files(output, chosen, dry_run=dry_run, inputs=inputs)
        if not any(len(split.sources) or split.problems for split in chosen.values()):
            raise DataError(f"{root}: no video or image with labels here")
        drawn = {} if val_fraction is None else {"val_fraction": val_fraction, "seed": seed or 0}
        prepared = {
            name: convert(
                split.sources,
                partial(_read_or_skip, labels.read),
                PreparedSplit(
                    name, files[name], problems=list(split.problems), notes=list(labels.notes)
                ),
                categories=labels.categories,
                info=root_info(labels.root, files[name]) | {"format": label_format, **drawn},
                origin=Origin(
                    repr((labels.root, labels.categories, labels.read, hints, split.sources)),
                    partial(last_change, labels.root),
                ),
                **run,
            )
            for name, split in chosen.items()
        }
        if {"train", "val"} <= prepared.keys() and not drawn:
            prepared["val"].shared = describe_shared_videos(
                labels.root, prepared["train"], prepared["val"]
            )
        return list(prepared.values())
    except OSError as error:
        raise DataError(f"{error.filename or root}: {error.strerror or error}") from error


def _check_hints(label_format: str, hints: Hints) -> None:
    from sparsevod_core.prepare.formats import FORMATS

    for name in (field.name for field in fields(hints)):
        if getattr(hints, name) not in (None, False) and name not in FORMATS[label_format].hints:
            option = "--" + name.replace("_", "-")
            users = ", ".join(other for other, form in FORMATS.items() if name in form.hints)
            raise ConfigError(f"{option} goes with {users}, not with {label_format}")
    if hints.images is not None and not hints.images.is_dir():
        raise DataError(f"{hints.images}: no such folder")


def _choose_splits(
    root: Path,
    found: dict[str, Split],
    splits: Sequence[str],
    val_fraction: float | None,
    seed: int,
    output: Path | None,
) -> dict[str, Split]:
    """Return the splits to write, by name. Those that are held out must be asked for by name."""
    asked = {name: found[name] for name in splits if name in HELD_OUT and name in found}
    if asked and len(asked) == len(splits):
        return asked
    if found and found.keys() <= HELD_OUT.keys():
        raise DataError(
            f"{root}: only {' and '.join(found)} data here",
            hint=f"use --splits {next(iter(found))} to convert them, or rename the folder if it is "
            "not a split",
        )
    found = {name: split for name, split in found.items() if name not in HELD_OUT}
    if {"train", "val"} <= found.keys():
        if val_fraction is not None:
            raise ConfigError(f"{root} already has a train and a val: leave out --val-fraction")
    else:
        undivided = _joined(list(found.values()))
        if val_fraction is not None:
            found = _draw_val(root, undivided, val_fraction, seed)
        elif output is None or output.suffix == ".json":
            found = {output.stem if output else "all": undivided}
        else:
            raise ConfigError(
                f"{root} is not divided into train and val",
                hint="use --val-fraction 0.1 to draw entire videos for val, or -o NAME.json for "
                "one file with all",
            )
    found |= asked
    for name in splits:
        if name not in found:
            raise ConfigError(f"unknown split {name!r}: expected {' or '.join(found)}")
    return {name: split for name, split in found.items() if not splits or name in splits}


def _joined(splits: list[Split]) -> Split:
    if len(splits) == 1:
        return splits[0]
    return Split(
        [source for split in splits for source in split.sources],
        [problem for split in splits for problem in split.problems],
        [name for split in splits for name in split.alone],
    )


def _held_out_notes(found: Mapping[str, Split], splits: Sequence[str]) -> list[str]:
    """Return which splits are left out, and why."""
    notes = []
    for name in (name for name in HELD_OUT if name in found and name not in splits):
        sources = found[name].sources
        noun = "video" if len(sources) == 1 else "videos"
        names = ", ".join(source.name for source in sources[:3])
        more = ", ..." if len(sources) > 3 else ""
        notes.append(f"{name}: {len(sources)} {noun} left out ({names}{more}): {HELD_OUT[name]}")
    return notes


def _draw_val(root: Path, split: Split, fraction: float, seed: int) -> dict[str, Split]:
    """Draw entire videos for `val`, reproducibly by seed."""
    total = len(split.sources)
    if total < 2:
        raise ConfigError(
            f"{root}: --val-fraction needs at least 2 videos, got {total}",
            hint="the still images of a folder count as one, since they may show the same scene",
        )
    if len(split.alone) > 1 and 2 * len(split.alone) > total:
        raise ConfigError(
            f"{root}: --val-fraction would divide frames that may belong together: by their names, "
            f"{len(split.alone)} of {total} videos have one frame, e.g. {split.alone[0]}",
            hint=f"{GROUPING_HINT}; or divide the images into folders train and val yourself",
        )
    count = min(max(round(fraction * total), 1), total - 1)
    drawn = set(random.Random(seed).sample(range(total), count))
    rest = tuple(sorted(set(range(total)) - drawn))
    return {
        "train": Split(Part(split.sources, rest), split.problems),
        "val": Split(Part(split.sources, tuple(sorted(drawn)))),
    }


def _read_or_skip(read: Callable[[Any], AnnotatedVideo], source: Any) -> AnnotatedVideo:
    """Read a video; if that fails entirely, return one without frames and with the problem."""
    try:
        return read(source)
    except SparseVodError as error:
        return AnnotatedVideo(source.name, problems=[f"{error.message}, video skipped"])
