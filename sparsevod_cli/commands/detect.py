"""`sparsevod detect`: videos in, videos with boxes out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sparsevod_cli.options import (
    Batch,
    CheckpointFile,
    ConfigFile,
    Device,
    Overrides,
    Seed,
    Support,
    Supports,
    named_or_embedded,
    overrides_with,
)


def _results(flag: str, text: str) -> typer.models.OptionInfo:
    return typer.Option(flag, metavar="PATH", help=text)


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
            help="Default: VIDEO_detections.mp4, right here. A name without suffix is a folder.",
        ),
    ] = None,
    checkpoint: CheckpointFile = None,
    score: Annotated[
        float, typer.Option("--score", min=0, max=1, help="Draw detections with a greater score.")
    ] = 0.3,
    supports: Supports = None,
    support: Support = None,
    batch: Batch = None,
    precision: Annotated[
        str | None, typer.Option("--precision", help="fp32, or bf16: faster, less exact.")
    ] = None,
    json_out: Annotated[Path | None, _results("--json", "Every detection as JSON.")] = None,
    jsonl: Annotated[Path | None, _results("--jsonl", "The same as JSON lines.")] = None,
    csv: Annotated[Path | None, _results("--csv", "A table, a row a detection.")] = None,
    coco: Annotated[Path | None, _results("--coco", "COCO's results format.")] = None,
    mot: Annotated[Path | None, _results("--mot", "MOTChallenge's det.txt.")] = None,
    yolo: Annotated[Path | None, _results("--yolo", "A folder of YOLO's labels.")] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with a run that was cut off.")
    ] = False,
    shard: Annotated[
        str | None,
        typer.Option("--shard", metavar="I/N", help="Of several videos only every N-th, from I."),
    ] = None,
    duration_s: Annotated[
        float | None,
        typer.Option("--duration", metavar="SECONDS", min=0, help="End a stream after so long."),
    ] = None,
    patience_s: Annotated[
        float,
        typer.Option("--reconnect", metavar="SECONDS", min=0, help="Try so long to connect again."),
    ] = 10.0,
    config_file: ConfigFile = None,
    overrides: Overrides = None,
    seed: Seed = None,
    device: Device = "auto",
) -> None:
    """Find objects in videos; write them again with boxes, names and scores.

    Without --checkpoint the model that comes with the package is used; which classes it knows is
    said.

    The output is H.264 in MP4, which browsers play, with the frames of the source at their times.
    A video that breaks in the middle is done as far as it goes; the exit code is then 1. Until a
    video is complete, and after Ctrl-C, OUT.mp4.journal.jsonl keeps what was found: --resume goes
    on from it.

    Of several videos, and where -o has no suffix, every output is a folder, in which files are
    called after the videos; those that are there already are not made again.

    Of a stream or camera the newest frame counts: those that come while the model works are left
    out. Only past frames can support (--support causal, which is then the default).

    --json, --jsonl, --csv, --coco and --mot take - for stdout. They hold every detection, whatever
    its score; docs/detections.md shows each. The JSON's keys: schema ("sparsevod.detections/1"),
    video, width, height (pixels, rotation applied), frame_rate ("30000/1001", or null), checkpoint
    ("embedded" for the package's own), support (mode, supports, window_stride), seed, categories
    (id, name), frames, num_frames, truncated (whether the video broke off, or Ctrl-C did it). Of a
    frame: index (from 0), time_s (seconds, or null), detections, best first. Of a detection:
    box_xyxy (x1, y1, x2, y2 in pixels of the video, inside it), score (0 to 1), label (the class's
    name), class_id (its id in your annotations).

    Example: sparsevod detect car.mp4

    Example: sparsevod detect car.mp4 -o boxes.mp4 --checkpoint best.pth --json boxes.json

    Example: sparsevod detect 'clips/*.mp4' -o found --csv found

    Example: sparsevod detect rtsp://camera.local/stream -o live.mp4 --duration 60
    """
    from sparsevod_cli.progress import ConsoleReporter
    from sparsevod_core.inference import Predictor
    from sparsevod_core.inference.detect_videos import detect_all, plan
    from sparsevod_core.video.sources import find_sources

    reporter = ConsoleReporter()
    options = {
        "json": json_out,
        "jsonl": jsonl,
        "csv": csv,
        "coco": coco,
        "mot": mot,
        "yolo": yolo,
    }
    results = {kind: path for kind, path in options.items() if path is not None}
    sources = find_sources(videos)
    jobs = plan(sources, output, results, shard)
    if support is None and any(job.source.is_live for job in jobs):
        support = "causal"
        reporter.message("a stream has no future frames: --support causal")
    checkpoint = named_or_embedded(checkpoint, reporter)
    settings = overrides_with(
        overrides,
        seed,
        config_file=config_file,
        inference__supports=supports,
        inference__support=support,
        inference__batch=batch,
        inference__precision=precision,
    )
    predictor = Predictor.from_checkpoint(
        checkpoint, device=device, overrides=settings, reporter=reporter
    )
    code = detect_all(
        predictor,
        jobs,
        score=score,
        checkpoint=checkpoint,
        resume=resume,
        duration_s=duration_s,
        patience_s=patience_s,
        reporter=reporter,
    )
    raise typer.Exit(code)
