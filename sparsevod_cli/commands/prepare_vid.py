"""`sparsevod prepare-vid`: from labels in any known format, or from nothing, to COCO-VID JSON."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sparsevod_cli import console, prepare_report
from sparsevod_cli.options import JsonOut, Seed
from sparsevod_core.errors import ConfigError

if TYPE_CHECKING:
    from sparsevod_core.prepare.prepared_split import PreparedSplit


_OWN = "Your own videos"
_RENDERED = "A rendered set"
_CHECK = "A report on a prepared set"


def prepare_vid(
    root: Annotated[
        Path | None,
        typer.Argument(
            metavar="ROOT",
            help="Folder of the videos, or their annotation file; with --synthetic, to render.",
        ),
    ] = None,
    label_format: Annotated[
        str,
        typer.Option("--format", help="auto, imagenet, coco, mot, yolo, voc or cvat."),
    ] = "auto",
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", help="Folder for train.json and val.json, or one .json."),
    ] = None,
    splits: Annotated[
        str | None, typer.Option("--splits", help="train, val or train,val; else what is there.")
    ] = None,
    no_det: Annotated[bool, typer.Option("--no-det", help="Leave out DET's still images.")] = False,
    classes: Annotated[
        Path | None,
        typer.Option(
            "--classes", help="Class names, one a line: NAME, or ID: NAME.", rich_help_panel=_OWN
        ),
    ] = None,
    images: Annotated[
        Path | None,
        typer.Option(
            "--images",
            help="coco, cvat: where images or videos lie, if elsewhere.",
            rich_help_panel=_OWN,
        ),
    ] = None,
    val_fraction: Annotated[
        float | None,
        typer.Option(
            "--val-fraction",
            help="Share of undivided videos to draw for val, e.g. 0.1.",
            rich_help_panel=_OWN,
        ),
    ] = None,
    first_frame: Annotated[
        int | None,
        typer.Option(
            "--first-frame",
            help="Labels' number of a video file's first frame: 0 or 1.",
            rich_help_panel=_OWN,
        ),
    ] = None,
    group_by_folder: Annotated[
        bool,
        typer.Option(
            "--group-by-folder",
            help="Images of one folder are one video, in any case.",
            rich_help_panel=_OWN,
        ),
    ] = False,
    strict: Annotated[
        bool, typer.Option("--strict", help="Stop at the first thing missing or broken.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Read and check everything, write nothing.")
    ] = False,
    workers: Annotated[
        int | None,
        typer.Option(
            "--workers", min=0, metavar="N", help="Processes that read; one for each core if unset."
        ),
    ] = None,
    synthetic: Annotated[
        bool,
        typer.Option(
            "--synthetic",
            help="Render a small video set into ROOT, convert it.",
            rich_help_panel=_RENDERED,
        ),
    ] = False,
    videos: Annotated[
        int | None, typer.Option("--videos", help="Training videos.", rich_help_panel=_RENDERED)
    ] = None,
    val_videos: Annotated[
        int | None,
        typer.Option("--val-videos", help="Validation videos.", rich_help_panel=_RENDERED),
    ] = None,
    frames: Annotated[
        int | None,
        typer.Option("--frames", help="Frames of a training video.", rich_help_panel=_RENDERED),
    ] = None,
    val_frames: Annotated[
        int | None,
        typer.Option(
            "--val-frames", help="Frames of a validation video.", rich_help_panel=_RENDERED
        ),
    ] = None,
    size: Annotated[
        str | None,
        typer.Option(
            "--size", metavar="WxH", help="Size of the frames.", rich_help_panel=_RENDERED
        ),
    ] = None,
    seed: Seed = None,
    check: Annotated[
        list[Path] | None,
        typer.Option(
            "--check",
            metavar="FILE",
            help="Report on a prepared set instead; may be repeated.",
            rich_help_panel=_CHECK,
        ),
    ] = None,
    frames_root: Annotated[
        Path | None,
        typer.Option(
            "--root", help="Where the frames are; else as FILE records.", rich_help_panel=_CHECK
        ),
    ] = None,
    decode: Annotated[
        bool,
        typer.Option(
            "--decode", help="Open every image, decode every video.", rich_help_panel=_CHECK
        ),
    ] = False,
    json_out: JsonOut = None,
) -> None:
    """Convert ImageNet VID, or your own labelled videos, to COCO-VID JSON; or render a small set.

    Of ImageNet VID, reads ROOT/Data, ROOT/Annotations and the lists in ROOT/ImageSets as the
    official archives hold them, whole or in part, of either year; DET's stills of the 30 classes
    join the training file where they are there. Frames stay where they are: the JSON records where
    that is. What is broken is left out and named, with file and line. Without -o the files go where
    `sparsevod train` looks. A run that is cut off goes on where it stopped when it is started again
    the same way.

    Your own videos: COCO or COCO-VID JSON, MOT Challenge folders, YOLO text, Pascal VOC XML or CVAT
    for video XML, with frames in folders or inside video files; --format auto says which it found.
    A train and a val in the data give both files; else --val-fraction draws whole videos with
    --seed, or -o NAME.json takes all. Your class ids stay. --classes, --images, --first-frame and
    --group-by-folder say what a layout leaves open.

    The result of --json is {"splits": [...]}, each with split, file, num_videos, expected_videos,
    num_frames, expected_frames, num_targets, expected_targets, num_stills, expected_stills,
    num_empty, expected_empty, num_boxes, expected_boxes, boxes_per_class,
    expected_boxes_per_class, missing, unlisted, num_other_boxes, problems and problems_file: the
    text file beside the output that names all that is missing or broken, null where nothing is.
    What is expected comes from the lists and from what ImageNet VID is known to hold; it is null
    where neither tells.

    --check FILE reports on a COCO-VID file of any origin: classes, sizes, tracks, motion, frame
    files, and what is broken or odd in it, as text and as a page of plots (-o PAGE.png, .pdf or
    .svg; else FILE.check.png). Exit code 1: training would stop there, or any problem with
    --strict. With --json: {"schema": "sparsevod.check/1", "sets": [...], "overlap": [...]}. Each
    set has file, root, is_complete (false: broken entries are left out of the numbers), verdict
    (errors, problems, remarks), findings (key, severity, text, count, places: the first by name,
    advice), frames, classes (id, name, boxes, target_boxes, frames, videos, tracks, sizes,
    motion), boxes, tracks, files and histograms (edges and counts; centres: the frame cut into
    32x32 cells). Lengths and frames per video are smallest, median, largest. The findings of
    overlap name videos that two files hold.

    Example: sparsevod prepare-vid ILSVRC2015 -o data/imagenet_vid --strict

    Example: sparsevod prepare-vid my_videos --format yolo -o data/mine --val-fraction 0.2 --seed 1

    Example: sparsevod prepare-vid --synthetic data/synthetic --videos 20 --seed 1

    Example: sparsevod prepare-vid --check data/synthetic/train.json
    """
    from sparsevod_cli.progress import ConsoleReporter

    rendering = _given(
        train_videos=videos,
        val_videos=val_videos,
        frames=frames,
        val_frames=val_frames,
        seed=None if val_fraction is not None else seed,
        **_size(size),
    )
    own = _given(
        classes=classes,
        images=images,
        first_frame=first_frame,
        group_by_folder=group_by_folder or None,
    )
    is_own = bool(own) or val_fraction is not None or label_format != "auto"
    if check:
        converting = root or splits or no_det or dry_run or is_own or workers is not None
        if converting or synthetic or rendering:
            raise ConfigError("--check goes with --root, --decode, --strict, -o and --json")
        from sparsevod_cli.check_report import check_sets

        code = check_sets(
            check, frames_root, output, decode=decode, strict=strict, json_out=json_out
        )
        raise typer.Exit(code)
    if frames_root or decode:
        raise ConfigError("--root and --decode go with --check FILE")
    if synthetic and root is None:
        root, output = output, None
    if root is None:
        raise ConfigError(
            "name the folder of the videos, or the folder to render with --synthetic",
            hint="sparsevod prepare-vid ILSVRC2015 -o data/imagenet_vid",
        )
    if synthetic:
        from sparsevod_core.prepare.synthetic.convert import SyntheticConfig, prepare_synthetic

        if output or splits or no_det or strict or dry_run or is_own or workers is not None:
            raise ConfigError(
                "--synthetic goes with one folder and the options of what is rendered"
            )
        config = SyntheticConfig(**rendering)
        prepared = prepare_synthetic(root, config, reporter=ConsoleReporter())
    elif rendering:
        raise ConfigError(
            "--videos, --val-videos, --frames, --val-frames, --size and --seed need --synthetic "
            "(--seed also goes with --val-fraction)"
        )
    else:
        prepared = _convert(
            root,
            output,
            label_format,
            own,
            no_det=no_det,
            val_fraction=val_fraction,
            seed=seed,
            splits=[split.strip() for split in splits.split(",")] if splits else (),
            strict=strict,
            dry_run=dry_run,
            workers=len(os.sched_getaffinity(0)) if workers is None else workers,
        )
    if str(json_out) != "-":
        prepare_report.show(str(root), prepared)
    if json_out is not None:
        console.write_json(json_out, {"splits": [prepare_report.as_json(s) for s in prepared]})


def _convert(
    root: Path,
    output: Path | None,
    label_format: str,
    own: dict[str, Any],
    *,
    no_det: bool,
    val_fraction: float | None,
    seed: int | None,
    **options: Any,
) -> list[PreparedSplit]:
    """Find out the format where it is left open, and convert."""
    from sparsevod_cli.progress import ConsoleReporter
    from sparsevod_core.prepare.imagenet_vid.convert import prepare_imagenet_vid
    from sparsevod_core.prepare.imagenet_vid.layout import holds_imagenet_vid

    reporter = ConsoleReporter()
    if label_format == "imagenet" or (label_format == "auto" and holds_imagenet_vid(root)):
        if own or val_fraction is not None:
            raise ConfigError(
                "--classes, --images, --val-fraction, --first-frame and --group-by-folder are for "
                "your own videos, not for ImageNet VID"
            )
        return prepare_imagenet_vid(
            root, output, include_det=not no_det, reporter=reporter, **options
        )
    from sparsevod_core.prepare.label_set import Hints
    from sparsevod_core.prepare.layouts import recognise
    from sparsevod_core.prepare.own_videos import FORMATS, prepare_own_videos

    if label_format not in ("auto", *FORMATS):
        raise ConfigError(f"--format {label_format}: expected auto, imagenet, {', '.join(FORMATS)}")
    if label_format == "auto":
        label_format, sign = recognise(root)
        reporter.message(f"{root}: read as {label_format}, because of {sign}")
    if no_det:
        raise ConfigError(f"--no-det is for ImageNet VID, not for {label_format}")
    return prepare_own_videos(
        root,
        output,
        label_format,
        hints=Hints(**own),
        val_fraction=val_fraction,
        seed=seed or 0,
        reporter=reporter,
        **options,
    )


def _given(**options: Any) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value is not None}


def _size(text: str | None) -> dict[str, int]:
    if text is None:
        return {}
    match = re.fullmatch(r"([0-9]{1,5})x([0-9]{1,5})", text)
    if match is None:
        raise ConfigError(f"--size {text!r}: expected WIDTHxHEIGHT, e.g. --size 320x240")
    return {"width": int(match[1]), "height": int(match[2])}
