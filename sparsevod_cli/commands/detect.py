"""`sparsevod detect`: videos in, videos with boxes out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sparsevod_cli import console
from sparsevod_cli.options import (
    Batch,
    CheckpointFile,
    Compile,
    ConfigFile,
    Device,
    Overrides,
    Precision,
    Seed,
    Support,
    Supports,
    named_or_embedded,
    overrides_with,
)

if TYPE_CHECKING:
    from sparsevod_core.inference.detect_videos import Job

FILES, DRAWING, VIDEO = "Files of detections", "Drawing", "The video that is written"
RUN = "Streams, and many videos"


def _results(flag: str, text: str) -> typer.models.OptionInfo:
    return typer.Option(flag, metavar="PATH", help=text, rich_help_panel=FILES)


def detect(
    videos: Annotated[
        list[str],
        typer.Argument(
            metavar="VIDEO...",
            help="Files, patterns, folders of images, @LIST, - (stdin), camera numbers, URLs.",
        ),
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="OUT.mp4",
            help="Also .mov, .mkv, .webm, .gif, frames/%06d.png; without suffix: a folder.",
        ),
    ] = None,
    checkpoint: CheckpointFile = None,
    supports: Supports = None,
    support: Support = None,
    batch: Batch = None,
    precision: Precision = None,
    compile_: Compile = None,
    score: Annotated[
        float,
        typer.Option(
            "--score",
            min=0,
            max=1,
            help="Draw detections with a greater score.",
            rich_help_panel=DRAWING,
        ),
    ] = 0.3,
    classes: Annotated[
        str | None,
        typer.Option(
            "--classes",
            metavar="A,B",
            help="Draw these classes alone (names or ids).",
            rich_help_panel=DRAWING,
        ),
    ] = None,
    max_boxes: Annotated[
        int | None,
        typer.Option(
            "--max-boxes",
            min=0,
            help="Draw the best of each frame alone.",
            rich_help_panel=DRAWING,
        ),
    ] = None,
    hide_labels: Annotated[
        bool, typer.Option("--hide-labels", help="Boxes alone.", rich_help_panel=DRAWING)
    ] = False,
    blur: Annotated[
        bool,
        typer.Option(
            "--blur",
            help="Make what is found unrecognisable; no boxes.",
            rich_help_panel=DRAWING,
        ),
    ] = False,
    compare: Annotated[
        bool,
        typer.Option(
            "--compare",
            help="Side by side: each frame alone, and with its supports.",
            rich_help_panel=DRAWING,
        ),
    ] = False,
    scale: Annotated[
        str | None,
        typer.Option(
            "--scale",
            metavar="SIZE",
            help="0.5, 640x360, 640x or x360; default: the source's size.",
            rich_help_panel=VIDEO,
        ),
    ] = None,
    codec: Annotated[
        str | None,
        typer.Option("--codec", help="h264, hevc, vp9 or av1.", rich_help_panel=VIDEO),
    ] = None,
    crf: Annotated[
        int | None,
        typer.Option(
            "--crf",
            help="Quality: 0 is best, +6 halves the size; default 20 for h264.",
            rich_help_panel=VIDEO,
        ),
    ] = None,
    bitrate: Annotated[
        str | None,
        typer.Option("--bitrate", help="Instead of --crf, e.g. 2M.", rich_help_panel=VIDEO),
    ] = None,
    no_video: Annotated[
        bool,
        typer.Option("--no-video", help="Write files of detections alone.", rich_help_panel=VIDEO),
    ] = False,
    json_out: Annotated[Path | None, _results("--json", "Every detection as JSON.")] = None,
    jsonl: Annotated[Path | None, _results("--jsonl", "The same as JSON lines.")] = None,
    csv: Annotated[Path | None, _results("--csv", "A table, a row a detection.")] = None,
    coco: Annotated[Path | None, _results("--coco", "COCO's results format.")] = None,
    mot: Annotated[Path | None, _results("--mot", "MOTChallenge's det.txt.")] = None,
    yolo: Annotated[Path | None, _results("--yolo", "A folder of YOLO's labels.")] = None,
    crop: Annotated[
        Path | None, _results("--crop", "A folder with a picture of each that is drawn.")
    ] = None,
    resume: Annotated[
        bool,
        typer.Option("--resume", help="Go on with a run that was cut off.", rich_help_panel=RUN),
    ] = False,
    gpus: Annotated[
        int | None,
        typer.Option(
            "--gpus", min=1, help="So many processes share the videos.", rich_help_panel=RUN
        ),
    ] = None,
    shard: Annotated[
        str | None,
        typer.Option(
            "--shard",
            metavar="I/N",
            help="Of several videos only every N-th, from I.",
            rich_help_panel=RUN,
        ),
    ] = None,
    duration_s: Annotated[
        float | None,
        typer.Option(
            "--duration",
            metavar="SECONDS",
            min=0,
            help="End a stream after so long.",
            rich_help_panel=RUN,
        ),
    ] = None,
    patience_s: Annotated[
        float,
        typer.Option(
            "--reconnect",
            metavar="SECONDS",
            min=0,
            help="Try so long to connect again.",
            rich_help_panel=RUN,
        ),
    ] = 10.0,
    config_file: ConfigFile = None,
    overrides: Overrides = None,
    seed: Seed = None,
    device: Device = "auto",
) -> None:
    """Find objects in videos; write them again with boxes, names and scores.

    Without --checkpoint the model that comes with the package is used; which classes it knows is
    said.

    The output is H.264 in MP4, which browsers play, with the frames of the source at their times
    and its sound; another suffix of -o, and --codec, give other files. A video that breaks in the
    middle is done as far as it goes; the exit code is then 1. Until a video is complete, and after
    Ctrl-C, OUT.mp4.journal.jsonl keeps what was found: --resume goes on from it.

    Of several videos, and where -o has no suffix, every output is a folder, in which files are
    called after the videos; in -o 'found/*.webm' the * stands for their names. Those that are
    there already are not made again. --gpus shares the videos among processes, --shard among
    machines.

    Of a stream or camera the newest frame counts: those that come while the model works are left
    out. Only past frames can support (--support causal, which is then the default).

    --json, --jsonl, --csv, --coco and --mot take - for stdout. They hold every detection, whatever
    its score; docs/detections.md shows each. The JSON's keys: schema ("sparsevod.detections/1"),
    video, width, height (pixels, rotation applied), frame_rate ("30000/1001", or null), checkpoint
    ("embedded" for the package's own), support (mode, supports, window_stride), seed, run (version,
    device, precision, threads), categories (id, name), frames, num_frames, truncated (whether the
    video broke off, or Ctrl-C did it). Of a frame: index (from 0), time_s (seconds, or null),
    detections, best first. Of a detection: box_xyxy (x1, y1, x2, y2 in pixels of the video, inside
    it), score (0 to 1), label (the class's name), class_id (its id in your annotations).

    Example: sparsevod detect car.mp4

    Example: sparsevod detect car.mp4 -o boxes.mp4 --checkpoint best.pth --json boxes.json

    Example: sparsevod detect 'clips/*.mp4' -o found --csv found

    Example: sparsevod detect car.mp4 --compare --scale 640x -o compared.gif

    Example: sparsevod detect rtsp://camera.local/stream -o live.mp4 --duration 60
    """
    is_main = console.is_first_process()
    from sparsevod_cli.progress import ConsoleReporter
    from sparsevod_core.config import override_pairs
    from sparsevod_core.distributed.launch import launch
    from sparsevod_core.inference.detect_videos import plan
    from sparsevod_core.inference.drawing import Drawing
    from sparsevod_core.video.containers import Encoding
    from sparsevod_core.video.sources import find_sources

    reporter = ConsoleReporter()
    options = {
        "json": json_out,
        "jsonl": jsonl,
        "csv": csv,
        "coco": coco,
        "mot": mot,
        "yolo": yolo,
        "crop": crop,
    }
    results = {kind: path for kind, path in options.items() if path is not None}
    jobs = plan(find_sources(videos), output, results, shard=shard, has_video=not no_video)
    drawing = Drawing(
        score,
        None if classes is None else tuple(name.strip() for name in classes.split(",")),
        max_boxes,
        has_labels=not hide_labels,
        blurs=blur,
        scale=scale,
        compares=compare,
    )
    encoding = Encoding(codec, crf, bitrate)
    to_do = [job for job in jobs if not job.is_done]
    if len(to_do) < len(jobs):
        reporter.message(f"{len(jobs) - len(to_do)} of {len(jobs)} videos are done already")
    if not jobs:
        reporter.message(f"--shard {shard} has none of these videos")
    if not to_do:
        return
    given = overrides_with(
        overrides,
        seed,
        config_file=config_file,
        inference__supports=supports,
        inference__support=support,
        inference__batch=batch,
        inference__precision=precision,
        inference__compile=compile_,
    )
    defaults = {"inference.precision": "auto"}
    is_chosen = "inference.support" in override_pairs(given)
    if not is_chosen and any(job.source.is_live for job in to_do):
        defaults["inference.support"] = "causal"
        reporter.message("a stream has no future frames: --support causal")
    settings = overrides_with(given, defaults=defaults)
    checkpoint = named_or_embedded(checkpoint, reporter)
    code = launch(
        _detect_jobs,
        min(gpus, len(to_do)) if gpus else None,
        device,
        to_do,
        checkpoint,
        settings=settings,
        device=device,
        is_single=len(jobs) == 1,
        drawing=drawing,
        encoding=encoding,
        resume=resume,
        duration_s=duration_s,
        patience_s=patience_s,
    )
    if is_main:
        raise typer.Exit(code)


def _detect_jobs(
    jobs: list[Job],
    checkpoint: Path,
    *,
    settings: list[str],
    device: str,
    is_single: bool,
    **options: Any,
) -> int:
    """What each process does: the next video that nobody has begun, until there is none."""
    from sparsevod_cli.progress import ConsoleReporter, LinesReporter
    from sparsevod_core import distributed
    from sparsevod_core.inference import DetectedVideo, Predictor, detect_video, resolve_device
    from sparsevod_core.inference.detect_videos import detect_all

    own_device = distributed.own_device(resolve_device(device))
    with distributed.process_group(own_device):
        reporter = LinesReporter() if distributed.is_joined() else ConsoleReporter()
        predictor = Predictor.from_checkpoint(
            checkpoint,
            device=str(own_device),
            overrides=settings,
            reporter=reporter if distributed.is_main() else None,
        )

        def detect_job(job: Job) -> DetectedVideo:
            return detect_video(
                predictor,
                job.source,
                job.files.video,
                results=job.files.results,
                checkpoint=checkpoint,
                reporter=reporter,
                **options,
            )

        mine = distributed.shared_out(jobs)
        code = detect_all(mine, detect_job, reporter, is_single=is_single)
        return max(distributed.gather(code))
