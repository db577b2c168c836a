"""`sparsevod detect`: a video in, a video with boxes out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sparsevod_cli.options import (
    Batch,
    CheckpointFile,
    ConfigFile,
    Device,
    JsonOut,
    Overrides,
    Seed,
    Support,
    Supports,
    named_or_embedded,
    overrides_with,
)


def detect(
    video: Annotated[Path, typer.Argument(metavar="VIDEO", help="A video file of any kind.")],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", metavar="OUT.mp4", help="Default: VIDEO_detections.mp4, right here."
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
    config_file: ConfigFile = None,
    overrides: Overrides = None,
    seed: Seed = None,
    device: Device = "auto",
    json_out: JsonOut = None,
) -> None:
    """Find objects in a video; write it again with boxes, names and scores.

    Without --checkpoint the model that comes with the package is used; which classes it knows is
    said.

    The output is H.264 in MP4, which browsers play, with the frames of the source at their times.
    A video that breaks in the middle is done as far as it goes; the exit code is then 1.

    The JSON holds every detection, whatever its score. Keys: schema ("sparsevod.detections/1"),
    video, width, height (pixels, rotation applied), frame_rate ("30000/1001", or null), checkpoint
    ("embedded" for the package's own), support (mode, supports, window_stride), seed, categories
    (id, name), frames, num_frames, truncated (whether the video broke off, or Ctrl-C did it). Of a
    frame: index (from 0), time_s (seconds, or null), detections, best first. Of a detection:
    box_xyxy (x1, y1, x2, y2 in pixels of the video, inside it), score (0 to 1), label (the class's
    name), class_id (its id in your annotations).

    Example: sparsevod detect car.mp4

    Example: sparsevod detect car.mp4 -o boxes.mp4 --checkpoint best.pth --json boxes.json
    """
    from sparsevod_cli.progress import ConsoleReporter
    from sparsevod_core.inference import Predictor, detect_video

    reporter = ConsoleReporter()
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
    output = output or Path(f"{video.stem}_detections.mp4")
    found = detect_video(
        predictor,
        video,
        output,
        json_out=json_out,
        score=score,
        checkpoint=checkpoint,
        reporter=reporter,
    )
    if found.broken:
        reporter.warning(found.broken)
    files = [str(path) for path in (output, json_out) if path not in (None, Path("-"))]
    reporter.message(
        f"wrote {' and '.join(files)}: {found.num_frames} frames, {found.num_detections} "
        f"detections, {found.num_drawn} of them drawn (score > {score:g})"
    )
    if found.is_interrupted or found.broken:
        raise typer.Exit(130 if found.is_interrupted else 1)
