"""`sparsevod prepare-vid`: from ImageNet VID's folders, or from nothing, to COCO-VID JSON."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Annotated, Any

import typer

from sparsevod_cli import console, prepare_report
from sparsevod_cli.options import JsonOut, Seed
from sparsevod_core.errors import ConfigError


def prepare_vid(
    root: Annotated[
        Path | None,
        typer.Argument(
            metavar="ROOT",
            help="Folder with Data/VID and Annotations/VID; with --synthetic, the one to render.",
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", help="Folder for train.json and val.json, or one .json."),
    ] = None,
    splits: Annotated[
        str | None, typer.Option("--splits", help="train, val or train,val; else what is there.")
    ] = None,
    no_det: Annotated[bool, typer.Option("--no-det", help="Leave out DET's still images.")] = False,
    strict: Annotated[
        bool, typer.Option("--strict", help="Stop at the first thing missing or broken.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Read and check everything, write nothing.")
    ] = False,
    workers: Annotated[
        int | None,
        typer.Option("--workers", min=0, help="Processes that read; one for each core if unset."),
    ] = None,
    synthetic: Annotated[
        bool, typer.Option("--synthetic", help="Render a small video set into ROOT, convert it.")
    ] = False,
    videos: Annotated[
        int | None, typer.Option("--videos", help="Rendered training videos.")
    ] = None,
    val_videos: Annotated[
        int | None, typer.Option("--val-videos", help="Rendered validation videos.")
    ] = None,
    frames: Annotated[
        int | None, typer.Option("--frames", help="Frames of a rendered training video.")
    ] = None,
    val_frames: Annotated[
        int | None, typer.Option("--val-frames", help="Frames of a rendered validation video.")
    ] = None,
    size: Annotated[
        str | None, typer.Option("--size", metavar="WxH", help="Size of rendered frames.")
    ] = None,
    seed: Seed = None,
    check: Annotated[
        list[Path] | None,
        typer.Option(
            "--check", metavar="FILE", help="Report on a prepared set instead; may be repeated."
        ),
    ] = None,
    frames_root: Annotated[
        Path | None,
        typer.Option("--root", help="With --check: where the frames are; else as FILE records."),
    ] = None,
    decode: Annotated[
        bool,
        typer.Option("--decode", help="With --check: open every image, decode every video."),
    ] = False,
    json_out: JsonOut = None,
) -> None:
    """Convert ImageNet VID to COCO-VID JSON, or render a small video set in its layout.

    Reads ROOT/Data, ROOT/Annotations and the lists in ROOT/ImageSets as the official archives hold
    them, whole or in part, of either year; DET's stills of the 30 classes join the training file
    where they are there. Frames stay where they are: the JSON records where that is. What is
    broken is left out and named, with file and line. Without -o the files go where `sparsevod
    train` looks.

    The result of --json is {"splits": [...]}, each with split, file, num_videos, expected_videos,
    num_frames, expected_frames, num_targets, num_stills, expected_stills, num_empty, num_boxes,
    boxes_per_class, missing, unlisted, num_other_boxes and problems. What is expected comes from
    the lists; it is null where a list is not there.

    --check FILE reports on a COCO-VID file of any origin: classes, sizes, tracks, motion, frame
    files, and what is broken or odd in it, as text and as a page of plots (-o PAGE.png, .pdf or
    .svg; else FILE.check.png). Exit code 1: training would stop there, or any problem with
    --strict. With --json: {"schema": "sparsevod.check/1", "sets": [...], "overlap": [...]}. Each
    set has file, root, verdict (errors, problems, remarks), findings (key, severity, text, count,
    places: the first by name, advice), frames, classes (id, name, boxes, target_boxes, frames,
    videos, tracks, sizes, motion), boxes, tracks, files and histograms (edges and counts; centres:
    the frame cut into 32x32 cells). Lengths and frames per video are smallest, median, largest.
    The findings of overlap name videos that two files hold.

    Example: sparsevod prepare-vid ILSVRC2015 -o data/imagenet_vid --strict

    Example: sparsevod prepare-vid --synthetic data/synthetic --videos 20 --seed 1

    Example: sparsevod prepare-vid --check data/synthetic/train.json
    """
    from sparsevod_cli.progress import ConsoleReporter

    rendering = _given(
        train_videos=videos,
        val_videos=val_videos,
        frames=frames,
        val_frames=val_frames,
        seed=seed,
        **_size(size),
    )
    if check:
        if root or splits or no_det or dry_run or synthetic or rendering or workers is not None:
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
            "name the folder of ImageNet VID, or the folder to render with --synthetic",
            hint="sparsevod prepare-vid ILSVRC2015 -o data/imagenet_vid",
        )
    if synthetic:
        from sparsevod_core.data.synthetic import SyntheticConfig, prepare_synthetic

        if output or splits or no_det or strict or dry_run or workers is not None:
            raise ConfigError(
                "--synthetic goes with one folder and the options of what is rendered"
            )
        config = SyntheticConfig(**rendering)
        prepared = prepare_synthetic(root, config, reporter=ConsoleReporter())
    elif rendering:
        raise ConfigError(
            "--videos, --val-videos, --frames, --val-frames, --size and --seed need --synthetic"
        )
    else:
        from sparsevod_core.data.formats.imagenet_vid import prepare_imagenet_vid

        prepared = prepare_imagenet_vid(
            root,
            output,
            splits=[split.strip() for split in splits.split(",")] if splits else (),
            include_det=not no_det,
            strict=strict,
            dry_run=dry_run,
            workers=len(os.sched_getaffinity(0)) if workers is None else workers,
            reporter=ConsoleReporter(),
        )
    if str(json_out) != "-":
        prepare_report.show(str(root), prepared)
    if json_out is not None:
        console.write_json(json_out, {"splits": [prepare_report.as_json(s) for s in prepared]})


def _given(**options: Any) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value is not None}


def _size(text: str | None) -> dict[str, int]:
    if text is None:
        return {}
    match = re.fullmatch(r"([0-9]{1,5})x([0-9]{1,5})", text)
    if match is None:
        raise ConfigError(f"--size {text!r}: expected WIDTHxHEIGHT, e.g. --size 320x240")
    return {"width": int(match[1]), "height": int(match[2])}
