"""`sparsevod detect`: videos in, videos with boxes out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sparsevod_cli import console
from sparsevod_cli.options import (
    Batch,
    Cache,
    CheckpointFile,
    Compile,
    ConfigFile,
    Device,
    NumSupports,
    Overrides,
    Precision,
    Seed,
    SupportMode,
    overrides_with,
)
from sparsevod_core.errors import ConfigError

FILES, DRAWING, VIDEO = "Files of detections", "Drawing", "Output video"
RUN = "Streams and many videos"
INTERRUPTED = 130  # exit code after Ctrl-C


def _results(flag: str, text: str) -> typer.models.OptionInfo:
    return typer.Option(flag, metavar="PATH", help=text, rich_help_panel=FILES)


def detect(
    videos: Annotated[
        list[str],
        typer.Argument(
            metavar="VIDEO",
            help="Video files, patterns, folders of videos or images, @LIST, - (stdin), camera "
            "numbers or URLs.",
        ),
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="OUT.mp4",
            help="Output video: .mp4, .mov, .mkv, .webm, .gif or frames/%06d.png; without a "
            "suffix: a folder.",
        ),
    ] = None,
    checkpoint: CheckpointFile = None,
    num_supports: NumSupports = None,
    support_mode: SupportMode = None,
    batch: Batch = None,
    precision: Precision = None,
    compile_: Compile = None,
    track: Annotated[
        bool,
        typer.Option(
            "--track",
            help="Give each object an id that it keeps from frame to frame (needs the extra "
            "'track').",
        ),
    ] = False,
    score: Annotated[
        float,
        typer.Option(
            "--score",
            min=0,
            max=1,
            help="Draw detections with a score greater than this.",
            rich_help_panel=DRAWING,
        ),
    ] = 0.3,
    classes: Annotated[
        str | None,
        typer.Option(
            "--classes",
            metavar="A,B",
            help="Draw only these classes (names or ids, comma-separated).",
            rich_help_panel=DRAWING,
        ),
    ] = None,
    max_boxes: Annotated[
        int | None,
        typer.Option(
            "--max-boxes",
            min=0,
            help="Draw at most N boxes per frame, highest score first.",
            metavar="N",
            rich_help_panel=DRAWING,
        ),
    ] = None,
    hide_labels: Annotated[
        bool,
        typer.Option("--hide-labels", help="Draw boxes without labels.", rich_help_panel=DRAWING),
    ] = False,
    blur: Annotated[
        bool,
        typer.Option(
            "--blur",
            help="Make objects unrecognizable instead of drawing boxes.",
            rich_help_panel=DRAWING,
        ),
    ] = False,
    compare: Annotated[
        bool,
        typer.Option(
            "--compare",
            help="Show each frame without and with support frames, side by side.",
            rich_help_panel=DRAWING,
        ),
    ] = False,
    frame_size: Annotated[
        str | None,
        typer.Option(
            "--frame-size",
            metavar="HxW",
            help="Frame size as HEIGHTxWIDTH; 360x sets only the height, x640 only the width; "
            "default: the source's size.",
            rich_help_panel=VIDEO,
        ),
    ] = None,
    scale: Annotated[
        str | None,
        typer.Option(
            "--scale",
            metavar="FACTOR",
            help="Scale the frames by a factor, e.g. 0.5.",
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
            help="Quality: 0 is best, +6 about halves the size; default: 20 for h264.",
            rich_help_panel=VIDEO,
        ),
    ] = None,
    bitrate: Annotated[
        str | None,
        typer.Option("--bitrate", help="Bit rate, e.g. 2M; replaces --crf.", rich_help_panel=VIDEO),
    ] = None,
    no_video: Annotated[
        bool,
        typer.Option(
            "--no-video", help="Write only files of detections, no video.", rich_help_panel=VIDEO
        ),
    ] = False,
    json_out: Annotated[Path | None, _results("--json", "JSON.")] = None,
    jsonl: Annotated[Path | None, _results("--jsonl", "JSON lines, one per frame.")] = None,
    csv: Annotated[Path | None, _results("--csv", "CSV table, one row per detection.")] = None,
    coco: Annotated[Path | None, _results("--coco", "COCO results file.")] = None,
    annotations: Annotated[
        Path | None,
        typer.Option(
            "--annotations",
            help="COCO-VID JSON of these videos, whose image and class ids --coco then uses.",
        ),
    ] = None,
    root: Annotated[
        Path | None,
        typer.Option(
            "--root", help="Folder of the frames of --annotations; default: as the JSON says."
        ),
    ] = None,
    coco_vid: Annotated[
        Path | None, _results("--coco-vid", "COCO-VID JSON of the drawn detections, as labels.")
    ] = None,
    mot: Annotated[
        Path | None, _results("--mot", "MOT Challenge's det.txt; with --track: a tracker's result.")
    ] = None,
    yolo: Annotated[Path | None, _results("--yolo", "Folder of YOLO label files.")] = None,
    crop: Annotated[
        Path | None, _results("--crop", "Folder of images, one per drawn detection.")
    ] = None,
    resume: Annotated[
        bool,
        typer.Option("--resume", help="Resume an interrupted run.", rich_help_panel=RUN),
    ] = False,
    gpus: Annotated[
        int | None,
        typer.Option(
            "--gpus",
            metavar="N",
            min=1,
            help="Number of processes to share the videos among, one per GPU.",
            rich_help_panel=RUN,
        ),
    ] = None,
    shard: Annotated[
        str | None,
        typer.Option(
            "--shard", metavar="I/N", help="Process only shard I of N.", rich_help_panel=RUN
        ),
    ] = None,
    duration_s: Annotated[
        float | None,
        typer.Option(
            "--duration",
            metavar="SECONDS",
            min=0,
            help="Stop reading a stream after SECONDS.",
            rich_help_panel=RUN,
        ),
    ] = None,
    patience_s: Annotated[
        float,
        typer.Option(
            "--reconnect",
            metavar="SECONDS",
            min=0,
            help="Keep trying to reconnect to a stream for SECONDS.",
            rich_help_panel=RUN,
        ),
    ] = 10.0,
    config_file: ConfigFile = None,
    overrides: Overrides = None,
    seed: Seed = None,
    device: Device = "auto",
    cache: Cache = None,
) -> None:
    """Detect objects in videos; write the videos with boxes, class names and scores.

    Without --checkpoint the bundled model is used; its classes are printed.

    The output is H.264 in MP4, with the source's frames, times and audio; use another suffix or
    --codec for other formats. If a video breaks off, the output contains the frames before that,
    and the exit code is 1. Until a video is complete, and after Ctrl-C, OUT.mp4.journal.jsonl keeps
    its detections; use --resume to continue.

    For several videos, and for -o without a suffix, each output is a folder of files named after
    the videos. In -o 'found/*.webm' the * stands for these names. Existing outputs of the same
    video and model are skipped. Use --gpus to share the videos among processes and --shard to share
    them among machines.

    A stream or camera always gives its newest frame: frames that arrive while the model is busy are
    dropped. It only has past frames as support frames (--support-mode causal, the default for
    streams).

    --json, --jsonl, --csv, --coco, --coco-vid and --mot accept - for stdout. They contain every
    detection, whatever its score, but --coco-vid only those that are drawn. With --track, all of
    them have ids; --mot contains only detections with an id. docs/detections.md shows the formats.
    To score --coco with `sparsevod eval`, also give --annotations. Keys of --json: schema
    ("sparsevod.detections/1"), video, width, height (in pixels, rotation applied), frame_rate
    ("30000/1001", or null), checkpoint ("embedded" for the bundled model), support (mode, supports,
    window_stride), seed, run (version, device, precision, threads, seed, settings, model: a
    digest), track (settings, only with --track), categories (id, name), frames, num_frames,
    truncated (true if the video broke off or the run was interrupted). Keys of a frame: index (from
    0), time_s (in seconds, or null), detections (highest score first). Keys of a detection:
    box_xyxy (x1, y1, x2, y2 in pixels of the video, clipped to it), score (0 to 1), label (name of
    the class), class_id (its id in the annotations the model was trained on), track_id (only with
    --track: the object's number from 1, or null).

    Example: sparsevod detect car.mp4

    Example: sparsevod detect car.mp4 -o boxes.mp4 --checkpoint best.pth --json boxes.json

    Example: sparsevod detect 'clips/*.mp4' -o found --csv found

    Example: sparsevod detect car.mp4 --track --mot car.txt

    Example: sparsevod detect 'videos/*.mp4' --no-video --annotations gt.json --coco found

    Example: sparsevod detect car.mp4 --compare --frame-size x640 -o compared.gif

    Example: sparsevod detect rtsp://camera.local/stream -o live.mp4 --duration 60
    """
    is_main = console.is_first_process()
    from sparsevod_cli.progress import ConsoleReporter
    from sparsevod_core.inference.detect_videos import detect_videos
    from sparsevod_core.inference.drawing import Drawing
    from sparsevod_core.video.containers import Encoding

    paths = {
        "json": json_out,
        "jsonl": jsonl,
        "csv": csv,
        "coco": coco,
        "coco_vid": coco_vid,
        "mot": mot,
        "yolo": yolo,
        "crop": crop,
    }
    results = detect_videos(
        videos,
        output,
        results={kind: path for kind, path in paths.items() if path is not None},
        has_video=not no_video,
        annotations=annotations,
        root=root,
        checkpoint=checkpoint,
        overrides=overrides_with(
            overrides,
            seed,
            config_file=config_file,
            inference__supports=num_supports,
            inference__support=support_mode,
            inference__batch=batch,
            inference__precision=precision,
            inference__compile=compile_,
        ),
        device=device,
        gpus=gpus,
        shard=shard,
        drawing=Drawing(
            score,
            None if classes is None else tuple(name.strip() for name in classes.split(",")),
            max_boxes,
            has_labels=not hide_labels,
            blurs=blur,
            scale=_output_size(frame_size, scale),
            compares=compare,
        ),
        encoding=Encoding(codec, crf, bitrate),
        track=track,
        resume=resume,
        duration_s=duration_s,
        patience_s=patience_s,
        reporter=ConsoleReporter(),
    )
    if not is_main:
        return
    if any(one.detected is not None and one.detected.is_interrupted for one in results):
        raise typer.Exit(INTERRUPTED)
    codes = [one.error.exit_code for one in results if one.error is not None]
    codes += [1 for one in results if one.detected is not None and one.detected.broken]
    raise typer.Exit(max(codes, default=0))


def _output_size(frame_size: str | None, scale: str | None) -> str | None:
    """Return the size for `Drawing.scale`; `--scale WIDTHxHEIGHT` is the deprecated form."""
    if frame_size is not None:
        if scale is not None:
            raise ConfigError("--frame-size and --scale both set the size: give one of them")
        if "x" not in frame_size:
            raise ConfigError(f"--frame-size {frame_size}: expected HEIGHTxWIDTH, e.g. 360x640")
        return frame_size
    if scale is not None and "x" in scale:
        width, _, height = scale.partition("x")
        frame_size = f"{height}x{width}"
        console.say(
            f"warning: --scale WIDTHxHEIGHT is deprecated, use --frame-size {frame_size} "
            "(HEIGHTxWIDTH)"
        )
        return frame_size
    return scale
