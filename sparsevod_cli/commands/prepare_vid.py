"""`sparsevod prepare-vid`: convert labeled videos; render, degrade or check a prepared set."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sparsevod_cli import console, prepare_report
from sparsevod_cli.options import JsonOut, Seed, parse_size
from sparsevod_core.errors import ConfigError

if TYPE_CHECKING:
    from sparsevod_core.prepare.synthetic.render import SyntheticConfig

SCHEMA = "sparsevod.prepare/1"

_own = partial(typer.Option, rich_help_panel="Your own videos")
_rendered = partial(typer.Option, rich_help_panel="Rendered set")
_degraded = partial(typer.Option, rich_help_panel="Degraded copy")
_checked = partial(typer.Option, rich_help_panel="Report on a prepared set")

# Parameters that belong to only one of the ways to use the command.
_TO_CONVERT = {
    "label_format", "splits", "no_det",
    "classes", "images", "val_fraction", "first_frame", "group_by_folder",
}  # fmt: skip
_TO_WRITE = {"dry_run", "workers"}  # to convert, or to degrade
_TO_RENDER = {"videos", "val_videos", "frames", "val_frames", "frame_size", "size"}
_TO_CHECK = {"decode"}


def prepare_vid(
    context: typer.Context,
    root: Annotated[
        Path | None,
        typer.Argument(
            metavar="ROOT",
            help="Folder of the videos, or their annotation file; with --synthetic, the "
            "folder to render into; with --degrade, the prepared JSON file.",
        ),
    ] = None,
    label_format: Annotated[
        str,
        typer.Option("--format", help="auto, imagenet, coco, mot, yolo, voc or cvat."),
    ] = "auto",
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", help="Folder for train.json and val.json, or a .json file."),
    ] = None,
    splits: Annotated[
        str | None,
        typer.Option("--splits", help="Splits to convert, e.g. test; default: train and val."),
    ] = None,
    no_det: Annotated[bool, typer.Option("--no-det", help="Skip DET's still images.")] = False,
    classes: Annotated[
        Path | None, _own("--classes", help="File of class names, one NAME or ID: NAME per line.")
    ] = None,
    images: Annotated[
        Path | None,
        _own("--images", help="coco, cvat: folder of the images or videos, if elsewhere."),
    ] = None,
    val_fraction: Annotated[
        float | None,
        _own(
            "--val-fraction", help="Fraction of the videos to select at random for val, e.g. 0.1."
        ),
    ] = None,
    first_frame: Annotated[
        int | None,
        _own("--first-frame", help="Number of a video's first frame in the labels: 0 or 1."),
    ] = None,
    group_by_folder: Annotated[
        bool, _own("--group-by-folder", help="Treat the images of each folder as one video.")
    ] = False,
    strict: Annotated[
        bool, typer.Option("--strict", help="Stop at the first thing missing or broken.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Read and check everything, but write nothing.")
    ] = False,
    workers: Annotated[
        int | None,
        typer.Option(
            "--workers",
            min=0,
            max=1024,
            metavar="N",
            help="Number of processes (--degrade: threads); default: one per core.",
        ),
    ] = None,
    synthetic: Annotated[
        bool, _rendered("--synthetic", help="Render a small video set into ROOT and convert it.")
    ] = False,
    videos: Annotated[
        int | None, _rendered("--videos", help="Number of training videos; default: 396.")
    ] = None,
    val_videos: Annotated[
        int | None, _rendered("--val-videos", help="Number of validation videos; default: 36.")
    ] = None,
    frames: Annotated[
        int | None, _rendered("--frames", help="Number of frames per training video; default: 10.")
    ] = None,
    val_frames: Annotated[
        int | None,
        _rendered("--val-frames", help="Number of frames per validation video; default: 25."),
    ] = None,
    frame_size: Annotated[
        str | None,
        _rendered(
            "--frame-size", metavar="HxW", help="Frame size as HEIGHTxWIDTH; default: 240x320."
        ),
    ] = None,
    size: Annotated[
        str | None,
        typer.Option("--size", hidden=True, help="Deprecated: frame size as WIDTHxHEIGHT."),
    ] = None,
    seed: Seed = None,
    degrade: Annotated[
        int | None,
        _degraded(
            "--degrade",
            metavar="SEED",
            min=0,
            max=2**63 - 1,
            help="Write a copy of the prepared set ROOT with blurred, dark and noisy frames.",
        ),
    ] = None,
    check: Annotated[
        list[Path] | None,
        _checked("--check", metavar="FILE", help="Report on a prepared set; repeatable."),
    ] = None,
    frames_root: Annotated[
        Path | None,
        _checked(
            "--root",
            help="Folder of the frames, also for --degrade; default: the one recorded in FILE.",
        ),
    ] = None,
    decode: Annotated[
        bool, _checked("--decode", help="Open every image and decode every video.")
    ] = False,
    json_out: JsonOut = None,
) -> None:
    """Convert labeled videos to COCO-VID JSON; render a small set, degrade or check a prepared one.

    ImageNet VID is read from ROOT/Data, ROOT/Annotations and the lists in ROOT/ImageSets, as in the
    official archives of 2015 or 2017, complete or in part. DET's still images of the 30 classes, if
    present, are added to the training file. Without -o, files go where `sparsevod train` looks for
    them.

    Your own videos may have labels in COCO or COCO-VID JSON, MOT text files, YOLO text,
    Pascal VOC XML or CVAT for video XML, with frames in folders or inside video files. If the data
    have the splits train and val, both files are written; test data are left out. Otherwise use
    --val-fraction and --seed to select videos at random for val, or -o NAME.json for one file.
    Class ids are kept. Use --classes, --images, --first-frame and --group-by-folder to specify what
    a layout leaves open.

    Frames are not copied: the JSON records their paths. Broken labels are skipped and reported with
    file and line. Run the same command again to resume an interrupted conversion.

    --degrade SEED FILE -o OUT copies a prepared set, with bursts of motion blur, defocus, low light
    and noise in up to 40 % of the frames of each video. `eval` then reports AP on degraded and on
    clean frames. Run the same command again to resume.

    --check FILE reports on any COCO-VID file: classes, sizes, tracks, motion, frame files, and
    broken or unusual entries, as text and as a page of plots (-o PAGE.png, .pdf or .svg; default:
    FILE.check.png). The exit code is 1 if training would fail, or, with --strict, for any problem.

    --json writes {"schema": "sparsevod.prepare/1", "splits": [...]} with the found and expected
    numbers, missing, unlisted and problems, or with --check {"schema": "sparsevod.check/1", "sets":
    [...], "overlap": [...]}.
    docs/own_videos.md describes all keys.

    Example: sparsevod prepare-vid ILSVRC2015 -o data/imagenet_vid --strict

    Example: sparsevod prepare-vid my_videos --format yolo -o data/mine --val-fraction 0.2 --seed 1

    Example: sparsevod prepare-vid --synthetic data/synthetic --videos 20 --seed 1

    Example: sparsevod prepare-vid --degrade 1 data/mine/val.json -o data/mine_degraded

    Example: sparsevod prepare-vid --check data/synthetic/train.json
    """
    if synthetic and not check and root is None:
        root, output = output, None
    _check_usage(context, root, output)
    if check:
        from sparsevod_cli.check_report import check_sets

        code = check_sets(
            check, frames_root, output, decode=decode, strict=strict, json_out=json_out
        )
        raise typer.Exit(code)

    from sparsevod_cli.progress import ConsoleReporter

    inputs = {"the source": root, "the class list": classes, "the folder of images": images}
    console.check_outputs(json_out, SCHEMA, inputs)
    reporter = ConsoleReporter()
    assert root is not None  # by _check_usage
    if synthetic:
        from sparsevod_core.prepare.synthetic.render import prepare_synthetic

        config = _synthetic_config(
            frame_size,
            size,
            train_videos=videos,
            val_videos=val_videos,
            frames=frames,
            val_frames=val_frames,
            seed=seed,
        )
        prepared = prepare_synthetic(root, config, reporter=reporter)
    elif degrade is not None:
        from sparsevod_core.prepare.degrade.copy import degrade_set

        copied = degrade_set(
            root,
            output,
            seed=degrade,
            root=frames_root,
            dry_run=dry_run,
            workers=workers,
            reporter=reporter,
        )
        prepared = [copied]
    else:
        from sparsevod_core.prepare.labeled import prepare_labeled
        from sparsevod_core.prepare.reading.label_set import Hints

        prepared = prepare_labeled(
            root,
            output,
            label_format,
            hints=Hints(classes, images, first_frame, group_by_folder),
            include_det=not no_det,
            val_fraction=val_fraction,
            seed=seed,
            splits=[split.strip() for split in splits.split(",")] if splits else (),
            strict=strict,
            dry_run=dry_run,
            workers=len(os.sched_getaffinity(0)) if workers is None else workers,
            reporter=reporter,
        )
    if json_out is not None:
        console.write_json(
            json_out, {"schema": SCHEMA, "splits": [prepare_report.as_json(s) for s in prepared]}
        )
    if str(json_out) != "-":
        prepare_report.show(str(root), prepared)


def _check_usage(context: typer.Context, root: Path | None, output: Path | None) -> None:
    """Raise unless the given options belong to one way of using the command."""
    defaults: tuple[object, ...] = (None, "auto", (), [])
    given = {
        name
        for name, value in context.params.items()
        if value is not False and value not in defaults
    }
    renders = bool(given & _TO_RENDER) or ("seed" in given and "val_fraction" not in given)
    if "check" in given:
        if renders or given & {"root", "synthetic", "degrade", *_TO_CONVERT, *_TO_WRITE}:
            raise ConfigError("--check goes with --root, --decode, --strict, -o and --json")
        return
    if given & _TO_CHECK or ("frames_root" in given and "degrade" not in given):
        raise ConfigError("--root and --decode go with --check FILE (--root also with --degrade)")
    if root is None:
        raise ConfigError(
            "no folder given: name the folder of the videos, or the folder to render with "
            "--synthetic",
            hint="sparsevod prepare-vid ILSVRC2015 -o data/imagenet_vid",
        )
    if "degrade" in given:
        if "seed" in given or given & {"synthetic", "strict", *_TO_CONVERT, *_TO_RENDER}:
            raise ConfigError(
                "--degrade goes with one JSON file, -o, --root, --workers, --dry-run and --json"
            )
    elif "synthetic" in given:
        if output or given & {"strict", *_TO_CONVERT, *_TO_WRITE}:
            raise ConfigError("--synthetic goes with one folder and the options of a rendered set")
    elif renders:
        raise ConfigError(
            "--videos, --val-videos, --frames, --val-frames, --frame-size and --seed need "
            "--synthetic (--seed also goes with --val-fraction)"
        )


def _synthetic_config(
    frame_size: str | None, size: str | None, **settings: int | None
) -> SyntheticConfig:
    """Return the given settings of a rendered set; `size` is the deprecated WIDTHxHEIGHT."""
    from sparsevod_core.prepare.synthetic.render import SyntheticConfig

    if size is not None:
        if frame_size is not None:
            raise ConfigError("--size is the old form of --frame-size: give only --frame-size")
        settings["width"], settings["height"] = parse_size(size, "--size", "WIDTHxHEIGHT")
        new = f"--frame-size {settings['height']}x{settings['width']}"
        console.say(f"warning: --size is deprecated, use {new} (HEIGHTxWIDTH)")
    elif frame_size is not None:
        settings["height"], settings["width"] = parse_size(frame_size, "--frame-size")
    given: dict[str, Any] = {name: value for name, value in settings.items() if value is not None}
    return SyntheticConfig(**given)
