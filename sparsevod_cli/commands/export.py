"""`sparsevod export`: export a checkpoint as graphs for other programs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sparsevod_cli import console
from sparsevod_cli.options import Cache, JsonOut, parse_size
from sparsevod_core.errors import ConfigError


def export(
    checkpoint: Annotated[
        Path | None,
        typer.Argument(
            metavar="CKPT",
            help="Checkpoint: ours, MMTracking's, MMDetection's or the original Sparse R-CNN's, or "
            "the name of published weights; default: the bundled model.",
        ),
    ] = None,
    output: Annotated[
        Path,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            help="File to write; its suffix is the format: .onnx, or .pt2 (torch.export).",
        ),
    ] = Path("model.onnx"),
    size: Annotated[
        str | None,
        typer.Option(
            "--size",
            help="Frame size as HEIGHTxWIDTH; default: data.short_side x data.long_side of the "
            "checkpoint.",
        ),
    ] = None,
    cache: Cache = None,
    json_out: JsonOut = None,
) -> None:
    """Export a checkpoint as two graphs in fp32, for target and support frames of one size.

    -o model.onnx also writes model_support.onnx. This support graph maps an `image` (uint8 RGB
    [1, 3, height, width]) to what target frames need of it: `support_maps` (sparsevod, troi),
    `support_proposals`, and `support_valid` (selsa, troi). Concatenate those of two or more support
    frames along the first dimension, and pass them to model.onnx with the `image` of a target
    frame. It returns `boxes_xyxy` [M, 4] in pixels of the image, `scores` [M] and `labels` [M],
    highest score first; rows with score 0 are no detections.

    Systems: sparsevod, selsa, troi, and the frame detector of selsa, troi, mamba and fgfa, which
    has no support graph. A program that reads a .pt2 file of the latter must import torchvision.

    Resize frames to fit the size, keeping the aspect ratio, and pad them with black on the right
    and below. The metadata of both files contains the size, the classes and the names of the inputs
    and outputs as JSON under "sparsevod".

    Keys of --json: schema ("sparsevod.export/1"), files, image_size, categories.

    Example: sparsevod export runs/r50/checkpoints/best.pth -o model.onnx --size 600x1000
    """
    from sparsevod_cli.progress import ConsoleReporter
    from sparsevod_core.checkpoint import load_detector
    from sparsevod_core.export.files import (
        OWN_GRAPH,
        SCHEMA,
        SUFFIXES,
        export_detector,
        graph_files,
    )

    if output.suffix not in SUFFIXES:
        raise ConfigError(f"-o {output}: expected a file name ending in {' or '.join(SUFFIXES)}")
    if not output.parent.is_dir():
        raise ConfigError(f"-o {output}: no such folder: {output.parent}")
    console.check_outputs(
        json_out,
        SCHEMA,
        {"the checkpoint": checkpoint},
        [(path, OWN_GRAPH) for path in graph_files(output)],
    )
    reporter = ConsoleReporter()
    detector, loaded = load_detector(checkpoint, reporter=reporter)
    data = loaded.config.data
    image_size = parse_size(size) if size else (data.short_side, data.long_side)
    files = export_detector(
        detector, output, image_size=image_size, categories=loaded.categories, reporter=reporter
    )
    if json_out is not None:
        console.write_json(
            json_out,
            {
                "schema": SCHEMA,
                "files": [str(file) for file in files],
                "image_size": list(image_size),
                "categories": [{"id": one.id, "name": one.name} for one in loaded.categories],
            },
        )
    for file in files:
        console.say(str(file))
